-- Detach a job from its parent.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- Returns: 0, 1 when its parent does not wait for it, -1 when there is no such job, -5 when it has no parent.
-- Events: waiting, of a parent that waits for nothing more.
-- Cost: O(1).
-- include: parents
local job_key = ARGV[1] .. ARGV[3]
if call('EXISTS', job_key) == 0 then
  return -1
end
local parent = read_parent(job_key)
if not parent or call('EXISTS', parent.key) == 0 then
  return -5
end
if call('SISMEMBER', parent.key .. ':dependencies', job_key) == 0 then
  return 1
end
detach_child(parent, job_key, ARGV[2])
change('HDEL', job_key, 'parentKey', 'parent')
return 0
