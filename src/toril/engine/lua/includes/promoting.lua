-- include: placing
-- include: batches
local PROMOTE_AT_ONCE = 1000

-- Move due jobs from `delayed` to where they run from, oldest first. Returns how many were moved; an id without a job
-- (or with something else in its place) is dropped.
local function promote_due(now_ms, base, delayed_key, waiting_key, prioritized_key, pc_key, events_key)
  local due = redis.call(
    'ZRANGEBYSCORE', delayed_key, '-inf', text_of((now_ms + 1) * 4096 - 1), 'LIMIT', 0, PROMOTE_AT_ONCE)
  if #due == 0 then
    return 0
  end
  -- A key of another type must fail here, before anything is written.
  redis.call('LLEN', waiting_key)
  redis.call('ZCARD', prioritized_key)
  redis.call('XLEN', events_key)
  local plain = {}
  for _, job_id in ipairs(due) do
    local job_key = base .. job_id
    local stored = redis.pcall('HGET', job_key, 'priority')
    if type(stored) ~= 'table' and (stored or redis.call('EXISTS', job_key) == 1) then
      local priority = number_of(stored)
      if priority == 0 then
        plain[#plain + 1] = job_id
      else
        redis.call('ZADD', prioritized_key, prioritized_score(priority, pc_key), job_id)
      end
      redis.call('XADD', events_key, '*', 'event', 'waiting', 'jobId', job_id, 'prev', 'delayed')
      redis.call('HSET', job_key, 'delay', '0')
    end
  end
  call_in_batches('LPUSH', waiting_key, plain)
  call_in_batches('ZREM', delayed_key, due)
  return #due
end
