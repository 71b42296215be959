-- include: calls
-- include: numbers
-- Starting a job that has been moved to `active`. Of the queue: base, active and events (keys).

-- A job that is new and tied to nothing, which most are: its fields and its id, in this order. Else nil.
local function read_new_job(job_key, job_id)
  if redis.pcall('HLEN', job_key) ~= 6 then
    return nil
  end
  local job = call('HMGET', job_key, 'name', 'data', 'opts', 'timestamp', 'delay', 'priority')
  job[7] = job_id
  return job[1] and job[2] and job[3] and job[4] and job[5] and job[6] and job or nil
end

-- Any job: {id, attempts started with this one, fields with their names}, and whether it has failed while it waited.
-- Nil when there is none.
local function read_any_job(job_key, job_id)
  local fields = redis.pcall('HGETALL', job_key)
  if fields.err or #fields == 0 then
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
  return {job_id, ats, fields}, is_deferred_failure
end

-- Start one job: lock, event, counters. Returns it as `take_jobs` does, or nil when there is no such job.
local function start_job(queue, taker, job_id, now)
  local job_key = queue.base .. job_id
  local job, ats, is_deferred_failure = read_new_job(job_key, job_id), '1', false
  if not job then
    job, is_deferred_failure = read_any_job(job_key, job_id)
    if not job then
      -- An id without a job (or not a job at all): dropped, never run as a phantom.
      call('LREM', queue.active, '-1', job_id)
      return nil
    end
    ats = job[2]
  end
  call('SET', job_key .. ':lock', taker.token, 'PX', taker.lock_ms)
  call('XADD', queue.events, '*', 'event', 'active', 'jobId', job_id, 'prev', 'waiting')
  if taker.worker_name ~= '' then
    call('HSET', job_key, 'processedOn', now, 'ats', ats, 'pb', taker.worker_name)
  else
    call('HSET', job_key, 'processedOn', now, 'ats', ats)
  end
  return job, is_deferred_failure
end
