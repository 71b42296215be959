-- include: starting
-- include: queue
-- include: promoting
-- include: time
-- include: pausing
-- Moving jobs to `active`. `queue` is as `queue_of` and `read_settings` make it; a taker is
--   {token, lock_ms, worker_name, max_job_bytes, limit_max, limit_duration, is_flagged}

-- Pop up to `count` ids in the order in which they run and push them to `active`.
local function move_to_active(queue, count)
  if count == 1 then
    local job_id = call('LMOVE', queue.wait, queue.active, 'RIGHT', 'LEFT')
    if job_id then
      undo[#undo + 1] = function(run)
        undo_taking(run, queue, {job_id}, {job_id})
      end
      return {job_id}
    end
  end
  local from_wait = count > 1 and call('RPOP', queue.wait, count) or {}
  if #from_wait > 0 then
    undo[#undo + 1] = function(run)
      undo_taking(run, queue, {}, from_wait)
    end
  end
  local ids = {unpack(from_wait)}
  if #ids < count then
    local popped = call('ZPOPMIN', queue.prioritized, count - #ids)
    for index = 1, #popped, 2 do
      ids[#ids + 1] = popped[index]
    end
    if #popped > 0 then
      undo[#undo + 1] = function(run)
        for index = 1, #popped, 2 do
          run('ZADD', queue.prioritized, popped[index + 1], popped[index])
        end
      end
    else
      -- Without undo: of no meaning while no job has a priority.
      call('DEL', queue.pc)
    end
  end
  if #ids == 0 then
    return ids
  end
  call('LPUSH', queue.active, unpack(ids))
  undo[#undo + 1] = function(run)
    undo_taking(run, queue, ids, {})
  end
  return ids
end

-- What a flagged worker takes: nothing. It may have used up a wake-up, which goes back when another worker can take.
local function pass_on(queue, max, now)
  local can_take = not queue.is_paused and not queue.is_maxed and (not max or allowed_by_limit(queue, max, 1) > 0)
  if can_take and (call('LLEN', queue.wait) > 0 or call('ZCARD', queue.prioritized) > 0) then
    wake_now(queue.marker)
  end
  return {-2, 0, now}
end

-- Take up to `count` jobs. Promotes due ones first, also when nothing may be taken.
-- Returns what was taken as `finish_and_take` does, and whether the queue is blocked (paused, maxed or rate limited), which says nothing
-- about its being empty.
local function take(queue, taker, count, now_ms)
  local now = text_of(now_ms)
  local active = (queue.concurrency or not queue.is_active_known) and call('LLEN', queue.active) or 0
  queue.is_maxed = queue.concurrency ~= nil and active >= queue.concurrency
  if not queue.is_trimmed then
    call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
  end
  if queue.is_paused and queue.target == queue.paused then
    -- A BullMQ 6 peer has paused it and left jobs in `wait`.
    join_lists(queue.wait, queue.paused)
  end
  local promoted = promote_due(
    now_ms, queue.base, queue.delayed, queue.target, queue.prioritized, queue.pc, queue.events)
  if promoted > 0 and not queue.is_paused and not queue.is_maxed then
    wake_now(queue.marker)
  end
  -- BullMQ's rule: the queue's own maximum wins, but the worker's duration does.
  local max = queue.max or taker.limit_max
  if taker.is_flagged then
    return pass_on(queue, max, now), queue.is_paused or queue.is_maxed
  end
  local reply, taken, used = {max and -1 or 0, 0, now}, 0, 0
  if max then
    local wait_ms
    count, wait_ms = allowed_by_limit(queue, max, count)
    if count == 0 then
      return {wait_ms, 0, now}, true
    end
  end
  if queue.is_paused or queue.is_maxed then
    return reply, true
  end
  if queue.concurrency then
    count = math.min(count, queue.concurrency - active)
  end
  local ids = move_to_active(queue, count)
  for index = 1, #ids do
    local job, fails_unread = start_job(queue, taker, ids[index], now)
    if job then
      emit(queue.events, '*', 'event', 'active', 'jobId', ids[index], 'prev', 'waiting')
      taken = taken + 1
      reply[taken + 3] = job
      if not fails_unread then
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
