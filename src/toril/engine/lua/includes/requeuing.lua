-- include: queue
-- Jobs that were somewhere else and wait again.

-- A key of another type must fail here, before a job is taken out of its place. After `read_settings`. With XTRIM as its
-- first write the script goes on when Redis is full, see memory.lua.
local function check_places(queue)
  redis.call('LLEN', queue.target)
  redis.call('ZCARD', queue.prioritized)
  redis.call('STRLEN', queue.pc)
  redis.call('ZCARD', queue.marker)
  redis.call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
end

-- Put a job where it runs from: `push` is the side of the list, for a job without priority.
local function requeue(queue, job_id, priority, push)
  if priority > 0 then
    redis.call('ZADD', queue.prioritized, prioritized_score(priority, queue.pc), job_id)
  else
    redis.call(push, queue.target, job_id)
  end
  queue.has_runnable = true
end

local function tell_waiting(queue, job_id, previous_state)
  redis.call('XADD', queue.events, 'MAXLEN', '~', queue.max_events, '*',
    'event', 'waiting', 'jobId', job_id, 'prev', previous_state)
end

-- Forget how a finished job ended.
local function reopen(job_key, state, ...)
  redis.call('HDEL', job_key, 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue', ...)
end
