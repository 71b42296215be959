-- include: numbers
-- include: changing
-- Wake-up tokens for workers that block on `marker`. A token too many, or too early, costs one look.

-- "Look now."
local function wake_now(marker_key)
  if call('ZADD', marker_key, '0', '0') == 1 then
    undo_by('ZREM', marker_key, '0')
  end
end

-- "Look when the first delayed job is due." Nothing when none is delayed.
local function wake_at_next_due(marker_key, delayed_key)
  local head = call('ZRANGE', delayed_key, 0, 0, 'WITHSCORES')
  local due_ms = due_time_of(head[2])
  if due_ms and call('ZADD', marker_key, string.format('%.17g', due_ms), '1') == 1 then
    undo_by('ZREM', marker_key, '1')
  end
end
