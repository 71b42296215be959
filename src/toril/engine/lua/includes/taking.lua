-- include: calls
-- include: queue
-- include: promoting
-- include: time
-- include: pausing
-- Moving jobs to `active`. `queue` is as `queue_of` and `read_settings` make it; a taker is
--   {token, lock_ms, worker_name, limit_max, limit_duration}

-- Pop up to `count` ids in the order in which they run and push them to `active`.
local function move_to_active(queue, count)
  if count == 1 then
    local job_id = call('LMOVE', queue.wait, queue.active, 'RIGHT', 'LEFT')
    if job_id then
      return {job_id}
    end
  end
  local ids = count > 1 and call('RPOP', queue.wait, count) or {}
  if #ids < count then
    local popped = redis.pcall('ZPOPMIN', queue.prioritized, count - #ids)
    if popped.err then
      -- A key of another type: back with what was taken, so that no job is in no list.
      for index = #ids, 1, -1 do
        call('RPUSH', queue.wait, ids[index])
      end
      error(popped.err)
    end
    for index = 1, #popped, 2 do
      ids[#ids + 1] = popped[index]
    end
    if #popped == 0 then
      call('DEL', queue.pc)
    end
  end
  call_in_batches('LPUSH', queue.active, ids)
  return ids
end

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

-- Take up to `count` jobs. Promotes due ones first, also when nothing may be taken.
-- Returns what `take_jobs` returns, and whether the queue is blocked (paused, maxed or rate limited), which says nothing
-- about its being empty.
local function take(queue, taker, count, now_ms)
  local now = text_of(now_ms)
  local active = (queue.concurrency or not queue.is_active_known) and call('LLEN', queue.active) or 0
  queue.is_maxed = queue.concurrency ~= nil and active >= queue.concurrency
  if queue.is_paused and queue.target == queue.paused then
    -- A BullMQ 6 peer has paused it and left jobs in `wait`.
    gather_paused(queue.wait, queue.paused)
  end
  local promoted = promote_due(
    now_ms, queue.base, queue.delayed, queue.target, queue.prioritized, queue.pc, queue.events)
  if promoted > 0 and not queue.is_paused and not queue.is_maxed then
    wake_now(queue.marker)
  end
  -- BullMQ's rule: the queue's own maximum wins, but the worker's duration does.
  local max = queue.max or taker.limit_max
  if max then
    local wait_ms
    count, wait_ms = allowed_by_limit(queue, max, count)
    if count == 0 then
      return {wait_ms, 0, now}, true
    end
  end
  if queue.is_paused or queue.is_maxed then
    return {0, 0, now}, true
  end
  if queue.concurrency then
    count = math.min(count, queue.concurrency - active)
  end
  -- A key of another type must fail here: what was taken out of `wait` would be active and not told.
  if not queue.is_trimmed then
    -- Nothing was ended by this call, so that nothing has touched these yet.
    call('LLEN', queue.active)
    call('XLEN', queue.events)
  end
  local reply, taken, used = {0, 0, now}, 0, 0
  local ids = move_to_active(queue, count)
  for index = 1, #ids do
    local job, is_deferred_failure = start_job(queue, taker, ids[index], now)
    if job then
      taken = taken + 1
      reply[taken + 3] = job
      if not is_deferred_failure then
        used = used + 1
      end
    end
  end
  if #ids > 0 then
    -- Passes the wake-up on to the next idle worker, or makes this one look again behind what was dropped.
    wake_now(queue.marker)
  end
  if taken == 0 then
    local head = call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
    -- Within what Redis can make an integer of.
    reply[2] = math.min(math.floor(due_time_of(head[2]) or 0), 2 ^ 53)
  elseif max then
    use_limit(queue, used, taker.limit_duration or queue.duration)
  end
  return reply, false
end
