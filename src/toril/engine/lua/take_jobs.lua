-- Take jobs: promote due ones, move up to `count` to `active`, lock them. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] count
-- ARGV[4] token   ARGV[5] length of the lock (ms)   ARGV[6] worker's name or ''
-- ARGV[7] worker's limit: jobs, or ''   ARGV[8] worker's limit: duration (ms), or ''
-- Returns: {rate limit (ms to wait, 0 = none, -1 = one that is not reached, -2 = the worker is flagged: see
--          `flag_workers`), due time of the first delayed job (ms, 0 = unknown), now (ms), job...}, each job
--          {id, attempts started with this one, {field, value...} as before it was taken}, or when it is new and tied to
--          nothing {name, data, opts, timestamp, delay, priority, id}
-- Events: waiting (promoted), active.
-- Cost: O(promoted + taken), with O(log n) for prioritized ones.
-- include: taking
-- include: flags
local queue = queue_of(ARGV[1])
read_settings(queue, ARGV[2])
local reply = take(queue, {
  token = ARGV[4], lock_ms = ARGV[5], worker_name = ARGV[6],
  limit_max = tonumber(ARGV[7]), limit_duration = tonumber(ARGV[8]), is_flagged = is_flagged(ARGV[1], ARGV[6]),
}, tonumber(ARGV[3]), server_now_ms())
return reply
