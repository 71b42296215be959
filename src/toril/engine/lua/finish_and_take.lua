-- End active jobs, and take new ones in the same call. Time is Redis's. Safe to repeat: see the codes.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how many to take (0 = none)   ARGV[4] token   ARGV[5] length of the lock (ms)   ARGV[6] worker's name or ''
-- ARGV[7] worker's limit: jobs, or ''   ARGV[8] worker's limit: duration (ms), or ''
-- ARGV[9] minutes of metrics to keep (0 = none are written)
-- ARGV[10...] for each job to end: id, token, attempts started, attempts made with this one, kind (completed, failed,
--            retry, requeue, limit, delay or waiting-children), value (JSON return value or reason), details ('' = none,
--            else JSON: see finishing.lua)
-- Returns: {{code...}, taken as `take_jobs` returns it}
--   codes: 0 done, 1 was done already, -1 no such job, -2 no lock, -3 not active, -4 has pending children,
--          -6 locked by another, -9 has failed children. Below 0 nothing was written for that job.
-- Events: completed or failed (and retries-exhausted), delayed, waiting, drained; those of taking; of a parent in its own
--         queue waiting or delayed.
-- Cost: O(ended + taken + removed by retention); O(ended × length of active) when others were started before them.
-- include: finishing
-- include: taking
local queue = queue_of(ARGV[1])
local take_count = tonumber(ARGV[3])
local now_ms = server_now_ms()
read_settings(queue, ARGV[2])

local codes, any_final = {}, false
local finishes = read_finishes(9)
if #finishes > 0 then
  codes, any_final = end_jobs(queue, finishes, ARGV[9], now_ms)
end

local taken, is_blocked = {0, 0, text_of(now_ms)}, false
if queue.limited_ms then
  taken[1], is_blocked = queue.limited_ms, true
elseif take_count > 0 then
  taken, is_blocked = take(queue, {
    token = ARGV[4], lock_ms = ARGV[5], worker_name = ARGV[6],
    limit_max = tonumber(ARGV[7]), limit_duration = tonumber(ARGV[8]),
  }, take_count, now_ms)
end
if queue.concurrency and not queue.is_paused and #finishes > 0 and #taken == 3 then
  wake_for_freed(queue, queue.concurrency)
end
-- Told when a job's end leaves nothing to do, as far as BullMQ looks.
if any_final and #taken == 3 and not is_blocked and taken[2] == 0
    and call('LLEN', queue.wait) == 0 and call('LLEN', queue.active) == 0 and call('ZCARD', queue.prioritized) == 0 then
  call('XADD', queue.events, '*', 'event', 'drained')
end
return {codes, taken}
