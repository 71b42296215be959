-- include: queue
-- Jobs that were somewhere else and wait again.

-- As the first write, after `read_settings`: the script goes on when Redis is full, see memory.lua.
local function trim(queue)
  call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
end

-- Put a job where it runs from: `push` is the side of the list, for a job without priority.
local function requeue(queue, job_id, priority, push)
  if priority > 0 then
    place_prioritized(queue.prioritized, queue.pc, job_id, priority)
  else
    place_in_list(push, queue.target, job_id)
  end
  queue.has_runnable = true
end

local function emit_waiting(queue, job_id, previous_state)
  emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
    'event', 'waiting', 'jobId', job_id, 'prev', previous_state)
end

-- Forget how a finished job ended.
local function reopen(job_key, state, ...)
  change('HDEL', job_key, 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue', ...)
end
