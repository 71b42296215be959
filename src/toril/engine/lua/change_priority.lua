-- Change a job's priority; one that waits takes its new place at once.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] priority (0 = none)   ARGV[5] 1: before its equals, else behind them
-- Returns: 0, or -1 when there is no such job.
-- Cost: O(log n); O(waiting) for a job in the plain list.
-- include: requeuing
local queue = queue_of(ARGV[1])
local job_id, priority, is_first = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local job_key = queue.base .. job_id
if call('EXISTS', job_key) == 0 then
  return -1
end
read_settings(queue, ARGV[2])
trim(queue)
change('HSET', job_key, 'priority', text_of(priority))
if change('ZREM', queue.prioritized, job_id) == 0 and change('LREM', queue.wait, -1, job_id) == 0
    and change('LREM', queue.paused, -1, job_id) == 0 then
  return 0
end
if priority > 0 and is_first then
  change('ZADD', queue.prioritized, text_of(priority * 4294967296), job_id)
else
  requeue(queue, job_id, priority, is_first and 'RPUSH' or 'LPUSH')
end
wake(queue)
return 0
