-- include: calls
-- include: numbers
-- Starting a job that has been moved to `active`. Of the queue: base, active and events (keys).

-- Start one job: lock, event, counters. Returns it as `take_jobs` does, or nil when there is no such job.
local function start_job(queue, taker, job_id, now)
  local job_key = queue.base .. job_id
  local fields = redis.pcall('HGETALL', job_key)
  if fields.err or #fields == 0 then
    -- An id without a job (or not a job at all): dropped, never run as a phantom.
    call('LREM', queue.active, -1, job_id)
    return nil
  end
  local ats, is_deferred_failure = '1', false
  for index = 1, #fields, 2 do
    local field = fields[index]
    if field == 'ats' then
      ats = text_of(number_of(fields[index + 1]) + 1)
    elseif field == 'defa' then
      is_deferred_failure = true
    end
  end
  call('SET', job_key .. ':lock', taker.token, 'PX', taker.lock_ms)
  call('XADD', queue.events, '*', 'event', 'active', 'jobId', job_id, 'prev', 'waiting')
  if taker.worker_name ~= '' then
    call('HSET', job_key, 'processedOn', now, 'ats', ats, 'pb', taker.worker_name)
  else
    call('HSET', job_key, 'processedOn', now, 'ats', ats)
  end
  return {job_id, ats, fields}, is_deferred_failure
end
