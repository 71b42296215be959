-- include: numbers
-- Wake-up tokens for workers that block on `marker`.

-- "Look now."
local function wake_now(marker_key)
  redis.call('ZADD', marker_key, '0', '0')
end

-- "Look when the first delayed job is due." Nothing when none is delayed.
local function wake_at_next_due(marker_key, delayed_key)
  local head = redis.call('ZRANGE', delayed_key, 0, 0, 'WITHSCORES')
  local due_ms = due_time_of(head[2])
  if due_ms then
    redis.call('ZADD', marker_key, string.format('%.17g', due_ms), '1')
  end
end
