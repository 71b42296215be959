-- Let a delayed job run so long from now. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] id   ARGV[3] delay from now (ms)
-- Returns: 0, -1 when there is no such job, -3 when it is not delayed.
-- Events: delayed.
-- Cost: O(log n).
-- include: checking
-- include: time
local queue = queue_of(ARGV[1])
local job_id, delay_ms = ARGV[2], tonumber(ARGV[3])
local job_key = queue.base .. job_id
local code = check_delayed(queue, job_id)
if code ~= 0 then
  return code
end
trim_events(queue.events, queue.meta)
change('HSET', job_key, 'delay', text_of(delay_ms))
change('ZREM', queue.delayed, job_id)
place_delayed(queue.delayed, queue.events, job_id, server_now_ms() + delay_ms)
wake_at_next_due(queue.marker, queue.delayed)
return 0
