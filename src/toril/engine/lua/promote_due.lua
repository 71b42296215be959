-- Move delayed jobs that are due to where they run from, and mend the wake-up tokens of workers. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- Returns: {how many were moved, 1000 at most; due time of the first that is left (ms, 0 = none)}
-- Events: waiting (prev delayed).
-- Cost: O(moved x log n).
-- include: queue
-- include: promoting
-- include: time
local queue = queue_of(ARGV[1])
read_settings(queue, ARGV[2])
call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
local moved = promote_due(
  server_now_ms(), queue.base, queue.delayed, queue.target, queue.prioritized, queue.pc, queue.events)
-- A token may have been lost with a worker, so every call wakes a worker while a job can run.
queue.has_runnable = call('LLEN', queue.wait) > 0 or call('ZCARD', queue.prioritized) > 0
queue.has_delayed = true
wake(queue)
local head = call('ZRANGE', queue.delayed, 0, 0, 'WITHSCORES')
return {moved, math.ceil(due_time_of(head[2]) or 0)}
