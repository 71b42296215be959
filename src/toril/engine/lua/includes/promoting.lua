-- include: placing
-- include: batches
-- Promoting delayed jobs that are due.
local PROMOTE_AT_ONCE = 1000

-- Move due jobs from `delayed` to where they run from, oldest first. Returns how many were moved; an id without a job
-- (or with something else in its place) is dropped.
local function promote_due(now_ms, base, delayed_key, waiting_key, prioritized_key, pc_key, events_key)
  local due = call(
    'ZRANGEBYSCORE', delayed_key, '-inf', text_of((now_ms + 1) * 4096 - 1), 'WITHSCORES',
    'LIMIT', 0, PROMOTE_AT_ONCE)
  if #due == 0 then
    return 0
  end
  local plain, ids, scores = {}, {}, {}
  for index = 1, #due, 2 do
    local job_id, job_key = due[index], base .. due[index]
    ids[#ids + 1] = job_id
    scores[index], scores[index + 1] = due[index + 1], job_id
    local stored = try('HMGET', job_key, 'priority', 'delay')
    if stored and (stored[1] or call('EXISTS', job_key) == 1) then
      local priority = number_of(stored[1])
      if priority == 0 then
        plain[#plain + 1] = job_id
      else
        place_prioritized(prioritized_key, pc_key, job_id, priority)
      end
      emit(events_key, '*', 'event', 'waiting', 'jobId', job_id, 'prev', 'delayed')
      call('HSET', job_key, 'delay', '0')
      undo_by('HSET', job_key, 'delay', stored[2] or '0')
    end
  end
  call_in_batches('LPUSH', waiting_key, plain)
  call_in_batches('ZREM', delayed_key, ids, 'ZADD', scores)
  return #ids
end
