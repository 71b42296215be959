-- Take jobs: promote due ones, move up to `count` to `active`, lock them. Time is Redis's.
--
-- KEYS[1] wait (list)       KEYS[2] paused (list)    KEYS[3] active (list)    KEYS[4] prioritized (zset)
-- KEYS[5] pc (string)       KEYS[6] delayed (zset)   KEYS[7] marker (zset)    KEYS[8] meta (hash)
-- KEYS[9] limiter (string)  KEYS[10] events (stream)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] count
-- ARGV[4] token   ARGV[5] length of the lock (ms)   ARGV[6] worker's name or ''
-- ARGV[7] worker's limit: jobs, or ''   ARGV[8] worker's limit: duration (ms), or ''
-- Returns: {rate limit (ms, 0 = none), due time of the first delayed job (ms, 0 = unknown), {id, {field, value...}}...}
-- Events: waiting (promoted), active.
-- Cost: O(promoted + taken), with O(log n) for prioritized ones.
-- include: taking
local keys = {
  wait = KEYS[1], paused = KEYS[2], active = KEYS[3], prioritized = KEYS[4], pc = KEYS[5],
  delayed = KEYS[6], marker = KEYS[7], meta = KEYS[8], limiter = KEYS[9], events = KEYS[10],
}
local options = {
  base = ARGV[1], layout = ARGV[2], token = ARGV[4], lock_ms = ARGV[5], worker_name = ARGV[6],
  limit_max = tonumber(ARGV[7]), limit_duration = tonumber(ARGV[8]),
}
local meta = redis.call('HMGET', keys.meta, 'paused', 'concurrency', 'max', 'duration')
local reply = take(keys, options, meta, tonumber(ARGV[3]), server_now_ms())
return reply
