-- Let one finished job run again.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] where it must be (completed or failed)
-- ARGV[5] 1: count its attempts from the start again (attempts made)   ARGV[6] 1: the same for attempts started
-- Returns: 0, -1 when there is no such job, -3 when it is not in that state.
-- Events: waiting (prev completed or failed).
-- Cost: O(log n).
-- include: requeuing
-- include: parents
local queue = queue_of(ARGV[1])
local layout, job_id, state = ARGV[2], ARGV[3], ARGV[4]
local job_key = queue.base .. job_id
if call('EXISTS', job_key) == 0 then
  return -1
end
if not call('ZSCORE', queue[state], job_id) then
  return -3
end
local stored = call('HMGET', job_key, 'priority', 'opts')
read_settings(queue, layout)
trim(queue)
change('ZREM', queue[state], job_id)
reopen(job_key, state)
if ARGV[5] == '1' then
  change('HDEL', job_key, 'atm', 'attemptsMade')
end
if ARGV[6] == '1' then
  change('HDEL', job_key, 'ats')
end
-- BullMQ 5 puts it into the list whatever its priority.
local priority = layout == '5' and 0 or number_of(stored[1])
local is_lifo = string.find(stored[2] or '', '"lifo":true', 1, true)
requeue(queue, job_id, priority, is_lifo and 'RPUSH' or 'LPUSH')
local parent = read_parent(job_key)
if parent then
  update_parent_guarded(nil, reattach_child, parent, job_key, state)
end
emit_waiting(queue, job_id, state)
wake(queue)
return 0
