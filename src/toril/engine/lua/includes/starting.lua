-- include: numbers
-- Starting jobs that have been moved to `active`. Of the queue: base, wait, active and prioritized (keys).

-- The jobs that were started, as they were: see `read_new_job` and `read_any_job`.
local starts = {}

-- For `undo`: locks go, the hashes are as before, `active_ids` leave `active`, and `from_wait` go back to the end of `wait`
-- from which they came.
local function undo_taking(run, queue, active_ids, from_wait)
  for index = 1, #starts do
    local job, stored = starts[index], {}
    -- A job that was new comes as values alone.
    local fields = type(job[3]) == 'table' and job[3] or {}
    local job_key = queue.base .. (fields == job[3] and job[1] or job[7])
    starts[index] = nil
    run('DEL', job_key .. ':lock')
    for at = 1, #fields, 2 do
      stored[fields[at]] = fields[at + 1]
    end
    for _, name in ipairs({'processedOn', 'ats', 'pb'}) do
      if stored[name] then
        run('HSET', job_key, name, stored[name])
      else
        run('HDEL', job_key, name)
      end
    end
  end
  for index = 1, #active_ids do
    if type(redis.pcall('LREM', queue.active, '1', active_ids[index])) == 'table' then
      -- Who may not use LREM has dropped no id without a job: the jobs are still the newest there.
      run('LPOP', queue.active, '1')
    end
  end
  for index = #from_wait, 1, -1 do
    run('RPUSH', queue.wait, from_wait[index])
  end
end

-- A job that is new and tied to nothing, which most are: its fields and its id, in this order. Nil when it has other
-- fields, or is larger than `largest` (bytes).
local function read_new_job(job_key, job_id, largest)
  local job = call('HMGET', job_key, 'name', 'data', 'opts', 'timestamp', 'delay', 'priority')
  job[7] = job_id
  return job[1] and job[2] and job[3] and job[4] and job[5] and job[6] and #job[1] + #job[2] + #job[3] <= largest
    and job or nil
end

-- Any job: {id, attempts started with this one, fields with their names}, and whether it fails unread: it has failed while
-- it waited, or it is larger than `largest` (bytes). A larger one comes with its small fields and, as a fourth, its size.
local function read_any_job(job_key, job_id, largest)
  local fields, size, ats, fails_unread = nil, call('HSTRLEN', job_key, 'data'), '1', false
  if size <= largest then
    fields, size = call('HGETALL', job_key), 0
    for index = 2, #fields, 2 do
      size = size + #fields[index]
    end
  end
  if size > largest then
-- include: sizing
    local small
    size, small = measure_fields(job_key, call('HKEYS', job_key))
    fields, fails_unread = read_fields(job_key, small), true
  else
    size = nil
  end
  for index = 1, #fields, 2 do
    local field = fields[index]
    if field == 'ats' then
      ats = text_of(number_of(fields[index + 1]) + 1)
    elseif field == 'defa' then
      fails_unread = true
    end
  end
  return {job_id, ats, fields, size}, fails_unread
end

-- Start one job: lock and counters; its event and the undoing (`undo_taking`) are the caller's. Returns it as
-- `finish_and_take` does, and whether it fails unread; nil when there is no such job.
local function start_job(queue, taker, job_id, now)
  local job_key = queue.base .. job_id
  local count, ats, fails_unread = redis.pcall('HLEN', job_key), '1', false
  local job = count == 6 and read_new_job(job_key, job_id, taker.max_job_bytes)
  if not job then
    local is_job = count ~= 0
    if type(count) == 'table' then
      -- Once more by `call`, which notes the command for the message of a refusal.
      local is_counted, reply = pcall(call, 'HLEN', job_key)
      if not is_counted and not string.find(tostring(reply), 'WRONGTYPE', 1, true) then
        error(reply, 0)
      end
      is_job = is_counted and reply > 0
    end
    if not is_job then
      -- An id without a job (or not a job at all): dropped, never run as a phantom.
      call('LREM', queue.active, '-1', job_id)
      return nil
    end
    job, fails_unread = read_any_job(job_key, job_id, taker.max_job_bytes)
    ats = job[2]
  end
  call('SET', job_key .. ':lock', taker.token, 'PX', taker.lock_ms)
  starts[#starts + 1] = job
  if taker.worker_name ~= '' then
    call('HSET', job_key, 'processedOn', now, 'ats', ats, 'pb', taker.worker_name)
  else
    call('HSET', job_key, 'processedOn', now, 'ats', ats)
  end
  return job, fails_unread
end
