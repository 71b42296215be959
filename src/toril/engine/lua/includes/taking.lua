-- include: promoting
-- include: waking
-- include: time
-- include: limiting
-- include: pausing
-- Moving jobs to `active`.

-- Pop up to `count` ids in the order in which they run and push them to `active`.
local function move_to_active(keys, count)
  local ids = {}
  local waiting = redis.call('RPOP', keys.wait, count)
  if waiting then
    for _, job_id in ipairs(waiting) do
      ids[#ids + 1] = job_id
    end
  end
  if #ids < count then
    local popped = redis.call('ZPOPMIN', keys.prioritized, count - #ids)
    for index = 1, #popped, 2 do
      ids[#ids + 1] = popped[index]
    end
    if #popped == 0 then
      redis.call('DEL', keys.pc)
    end
  end
  call_in_batches('LPUSH', keys.active, ids)
  return ids
end

-- Start one job: lock, event, counters. Returns its id and fields, or nil when there is no such job.
local function start_job(keys, options, job_id, now_ms)
  local job_key = options.base .. job_id
  local fields = redis.pcall('HGETALL', job_key)
  if fields.err or #fields == 0 then
    -- An id without a job (or not a job at all): dropped, never run as a phantom.
    redis.call('LREM', keys.active, -1, job_id)
    return nil
  end
  local started, is_deferred_failure = 0, false
  for index = 1, #fields, 2 do
    if fields[index] == 'ats' then
      started = number_of(fields[index + 1])
    elseif fields[index] == 'defa' then
      is_deferred_failure = true
    end
  end
  local now, ats = text_of(now_ms), text_of(started + 1)
  redis.call('SET', job_key .. ':lock', options.token, 'PX', options.lock_ms)
  redis.call('XADD', keys.events, '*', 'event', 'active', 'jobId', job_id, 'prev', 'waiting')
  local last = #fields
  fields[last + 1], fields[last + 2], fields[last + 3], fields[last + 4] = 'processedOn', now, 'ats', ats
  if options.worker_name ~= '' then
    redis.call('HSET', job_key, 'processedOn', now, 'ats', ats, 'pb', options.worker_name)
    fields[last + 5], fields[last + 6] = 'pb', options.worker_name
  else
    redis.call('HSET', job_key, 'processedOn', now, 'ats', ats)
  end
  return {job_id, fields}, is_deferred_failure
end

-- Take up to `count` jobs. Promotes due ones first, also when nothing may be taken.
--   keys: table of key names     options: base, layout, token, lock_ms, worker_name, limit_max, limit_duration
--   meta: HMGET paused concurrency max duration
-- Returns {rate limit (ms), due time of the first delayed job (ms), job...}, and whether the queue is blocked
-- (paused, maxed or rate limited), which says nothing about its being empty.
local function take(keys, options, meta, count, now_ms)
  local is_paused = meta[1] and true or false
  local active = redis.call('LLEN', keys.active)
  local concurrency = limit_of(meta[2])
  local is_maxed = concurrency ~= nil and active >= concurrency
  local target_key = waiting_list(keys.wait, keys.paused, keys.meta, options.layout, is_paused)
  if target_key == keys.paused then
    -- A BullMQ 6 peer has paused it and left jobs in `wait`.
    gather_paused(keys.wait, keys.paused)
  end
  local promoted = promote_due(
    now_ms, options.base, keys.delayed, target_key, keys.prioritized, keys.pc, keys.events)
  if promoted > 0 and not is_paused and not is_maxed then
    wake_now(keys.marker)
  end
  -- BullMQ's rule: the queue's own maximum wins, but the worker's duration does.
  local max = limit_of(meta[3]) or options.limit_max
  if max then
    local wait_ms
    count, wait_ms = allowed_by_limit(keys, max, count)
    if count == 0 then
      return {wait_ms, 0}, true
    end
  end
  if is_paused or is_maxed then
    return {0, 0}, true
  end
  if concurrency then
    count = math.min(count, concurrency - active)
  end
  -- A key of another type must fail here: what was taken out of `wait` would be in no list, or active and not told.
  redis.call('ZCARD', keys.prioritized)
  redis.call('XLEN', keys.events)
  local reply, used, any_dropped = {0, 0}, 0, false
  for _, job_id in ipairs(move_to_active(keys, count)) do
    local job, is_deferred_failure = start_job(keys, options, job_id, now_ms)
    if job then
      reply[#reply + 1] = job
      if not is_deferred_failure then
        used = used + 1
      end
    else
      any_dropped = true
    end
  end
  if #reply > 2 or any_dropped then
    -- Passes the wake-up on to the next idle worker, or makes this one look again behind what was dropped.
    wake_now(keys.marker)
  end
  if #reply > 2 then
    if max then
      use_limit(keys, used, options.limit_duration or limit_of(meta[4]))
    end
  else
    local head = redis.call('ZRANGE', keys.delayed, 0, 0, 'WITHSCORES')
    reply[2] = math.floor(due_time_of(head[2]) or 0)
  end
  return reply, false
end
