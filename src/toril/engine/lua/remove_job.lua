-- Remove a job from wherever it is, with its children if wished. Nothing is removed when a worker holds one of them.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] 1: with its children, whatever their state   ARGV[5] how many jobs to remove at most
-- ARGV[6] 1: goes on with what an earlier call has begun
-- Returns: 1 removed or not there, 2 there is more (call again), 0 locked, -8 a scheduler's next iteration.
-- Events: removed, for each; waiting, of a parent that waits for nothing more.
-- Cost: O(removed), O(n) for a job in a list.
-- include: uprooting
local queue = queue_of(ARGV[1])
local job_id, with_children, has_begun = ARGV[3], ARGV[4] == '1', ARGV[6] == '1'
local job = read_ties(queue, job_id)
if not job.is_foreign and is_armed(queue, job) then
  return -8
end
if not has_begun and is_locked(job.key, with_children) then
  return 0
end
local options = {
  layout = ARGV[2], with_children = with_children, budget = tonumber(ARGV[5]), begun = {}, heeds_locks = has_begun,
}
if uproot(queue.base, job_id, nil, options) then
  return 1
end
return options.is_stopped and 0 or 2
