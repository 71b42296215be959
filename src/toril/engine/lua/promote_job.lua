-- Let one delayed job run now.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- Returns: 0, -1 when there is no such job, -3 when it is not delayed.
-- Events: waiting (prev delayed).
-- Cost: O(log n).
-- include: checking
-- include: requeuing
local queue = queue_of(ARGV[1])
local job_id = ARGV[3]
local job_key = queue.base .. job_id
local code = check_delayed(queue, job_id)
if code ~= 0 then
  return code
end
local priority = number_of(call('HGET', job_key, 'priority'))
read_settings(queue, ARGV[2])
trim(queue)
change('ZREM', queue.delayed, job_id)
change('HSET', job_key, 'delay', '0')
requeue(queue, job_id, priority, 'LPUSH')
emit_waiting(queue, job_id, 'delayed')
wake(queue)
return 0
