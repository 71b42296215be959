-- Remove a job scheduler, and its armed job if that is delayed. One that waits in line or runs is left to run.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] id
-- Returns: 1 when there was such a scheduler, else 0.
-- Events: removed.
-- Cost: O(log n).
-- include: scheduling
-- include: removing
local queue = queue_of(ARGV[1])
local slot = call('ZSCORE', queue.schedulers, ARGV[2])
if not slot then
  -- Whatever is under the name of its hash is something else, such as a job of another scheduler.
  return 0
end
local job_id = slot_job_id(ARGV[2], slot_of(slot))
if change('ZREM', queue.delayed, job_id) == 1 then
  delete_jobs(queue.base, {job_id})
  read_settings(queue, '6')
  emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
    'event', 'removed', 'jobId', job_id, 'prev', 'delayed')
end
change('DEL', queue.schedulers .. ':' .. ARGV[2])
return change('ZREM', queue.schedulers, ARGV[2])
