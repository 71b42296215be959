-- include: removing
-- include: numbers
local REMOVE_AT_ONCE = 1000

-- Enforce what is kept of one kind of finished jobs; no events.
--   count: keep the newest so many (nil = no limit)   age_ms: remove older ones (nil = no limit)
--   limit: at most so many by age in one go (nil = 1000), newest first, as BullMQ does
local function retain(base, finished_key, now_ms, count, age_ms, limit)
  if age_ms then
    local expired = redis.call('ZREVRANGEBYSCORE', finished_key, text_of(now_ms - age_ms), '-inf',
      'LIMIT', 0, limit or REMOVE_AT_ONCE)
    if #expired > 0 then
      delete_jobs(base, expired)
      call_in_batches('ZREM', finished_key, expired)
    end
  end
  if count and count > 0 then
    local surplus = redis.call('ZREVRANGE', finished_key, count, -1)
    if #surplus > 0 then
      delete_jobs(base, surplus)
      call_in_batches('ZREM', finished_key, surplus)
    end
  end
end
