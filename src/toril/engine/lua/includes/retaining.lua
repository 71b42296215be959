-- include: removing
-- include: numbers
-- include: parents
-- Retention: removing finished jobs by count and by age.
local REMOVE_AT_ONCE = 1000

-- Enforce what is kept of one kind of finished jobs; no events.
--   count: keep the newest so many (nil = no limit); at most 1000 of the others, the oldest, are removed in one go
--   age_ms: remove older ones (nil = no limit)
--   limit: at most so many by age in one go (nil = 1000), newest first, as BullMQ does
--   layout: for failed jobs, whose parents may still wait for them: that of paused queues; completed ones left theirs
local function retain(base, finished_key, now_ms, count, age_ms, limit, layout)
  local function remove(found)
    if #found > 0 then
      local ids, scores = {}, {}
      for index = 1, #found, 2 do
        ids[#ids + 1] = found[index]
        scores[index], scores[index + 1] = found[index + 1], found[index]
      end
      if layout then
        detach_children(base, ids, layout)
      end
      delete_jobs(base, ids)
      call_in_batches('ZREM', finished_key, ids, 'ZADD', scores)
    end
  end
  if age_ms then
    remove(call('ZREVRANGEBYSCORE', finished_key, text_of(now_ms - age_ms), '-inf', 'WITHSCORES',
      'LIMIT', 0, limit or REMOVE_AT_ONCE))
  end
  if count and count > 0 then
    local excess = call('ZCARD', finished_key) - count
    if excess > 0 then
      remove(call('ZREVRANGE', finished_key, -math.min(excess, REMOVE_AT_ONCE), -1, 'WITHSCORES'))
    end
  end
end
