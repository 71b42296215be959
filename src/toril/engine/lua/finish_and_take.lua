-- End active jobs, and take new ones in the same call. Time is Redis's. Safe to repeat: see the codes.
--
-- KEYS[1] wait (list)       KEYS[2] paused (list)      KEYS[3] active (list)     KEYS[4] prioritized (zset)
-- KEYS[5] pc (string)       KEYS[6] delayed (zset)     KEYS[7] marker (zset)     KEYS[8] meta (hash)
-- KEYS[9] limiter (string)  KEYS[10] events (stream)   KEYS[11] stalled (set)    KEYS[12] completed (zset)
-- KEYS[13] failed (zset)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how many to take (0 = none)   ARGV[4] token   ARGV[5] length of the lock (ms)   ARGV[6] worker's name or ''
-- ARGV[7] worker's limit: jobs, or ''   ARGV[8] worker's limit: duration (ms), or ''
-- ARGV[9] minutes of metrics to keep (0 = none are written)
-- ARGV[10...] for each job to end: id, token, attempts started, attempts made before, kind (completed, failed, retry or
--            requeue), value (JSON return value or reason), stacktrace (JSON array), delay (ms, of a retry),
--            keep: count, age (ms), limit ('' = no limit), attempts allowed
-- Returns: {{code...}, taken as `take_jobs` returns it}
--   codes: 0 done, 1 was done already, -1 no such job, -2 no lock, -3 not active, -4 has pending children,
--          -6 locked by another, -9 has failed children. Below 0 nothing was written for that job.
-- Events: completed or failed (and retries-exhausted), delayed, waiting, drained; those of taking; of a parent in its own
--         queue waiting or delayed.
-- Cost: O(ended × length of active + taken + removed by retention).
-- include: finishing
-- include: taking
-- include: measuring
local keys = {
  wait = KEYS[1], paused = KEYS[2], active = KEYS[3], prioritized = KEYS[4], pc = KEYS[5], delayed = KEYS[6],
  marker = KEYS[7], meta = KEYS[8], limiter = KEYS[9], events = KEYS[10], stalled = KEYS[11], completed = KEYS[12],
  failed = KEYS[13],
}
local options = {
  base = ARGV[1], layout = ARGV[2], token = ARGV[4], lock_ms = ARGV[5], worker_name = ARGV[6],
  limit_max = tonumber(ARGV[7]), limit_duration = tonumber(ARGV[8]),
}
local take_count = tonumber(ARGV[3])
local base = options.base
local now_ms = server_now_ms()
local meta = redis.call('HMGET', keys.meta, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
local is_paused = meta[1] and true or false
keys.target = waiting_list(keys.wait, keys.paused, keys.meta, options.layout, is_paused)

local finishes, lock_keys, children_keys, kinds = {}, {}, {}, {}
for at = 9, #ARGV - FINISH_FIELDS, FINISH_FIELDS do
  local finish = read_finish(at)
  finishes[#finishes + 1] = finish
  kinds[finish.kind] = true
  lock_keys[#lock_keys + 1] = base .. finish.id .. ':lock'
  if finish.kind == 'completed' then
    children_keys[#children_keys + 1] = base .. finish.id .. ':dependencies'
    children_keys[#children_keys + 1] = base .. finish.id .. ':unsuccessful'
  end
end

local function read_stored(job_id)
  local fields = redis.call('HMGET', base .. job_id,
    'ats', 'atm', 'attemptsMade', 'finishedOn', 'priority', 'deid', 'opts', 'parentKey')
  return {
    ats = fields[1] or '', atm = number_of(fields[3] or fields[2]), finished_on = fields[4],
    priority = number_of(fields[5]), deduplication_id = fields[6], opts = fields[7] or '', parent_key = fields[8],
    exists = (fields[1] or fields[7]) and true or false,
  }
end

-- The code of a finish that may not be carried out, or 0.
local function refusal(finish, stored, lock, any_children)
  if not stored.exists and redis.call('EXISTS', base .. finish.id) == 0 then
    return -1
  end
  if lock ~= finish.token then
    if lock then
      return -6
    end
    return was_done(finish, stored) and 1 or -2
  end
  if any_children and finish.kind == 'completed' then
    if redis.call('SCARD', base .. finish.id .. ':dependencies') > 0 then
      return -4
    end
    if redis.call('ZCARD', base .. finish.id .. ':unsuccessful') > 0 then
      return -9
    end
  end
  return 0
end

local pending_retention = {}
local function flush_retention(kind)
  local keep = pending_retention[kind]
  if keep then
    pending_retention[kind] = nil
    retain(base, kind == 'completed' and keys.completed or keys.failed, now_ms,
      keep.keep_count, keep.keep_age_ms, keep.keep_limit, kind == 'failed' and options.layout)
  end
end

-- Retention runs once for a run of jobs with the same policy, as if after each of them; called before one is stored.
local function note_retention(finish)
  local pending = pending_retention[finish.kind]
  if pending and (pending.keep_count ~= finish.keep_count or pending.keep_age_ms ~= finish.keep_age_ms
      or pending.keep_limit ~= finish.keep_limit) then
    flush_retention(finish.kind)
  end
  if finish.keep_count ~= 0 and (finish.keep_count or finish.keep_age_ms) then
    pending_retention[finish.kind] = finish
  end
end

-- A key of another type must fail here, before anything is written: a job would be in no list.
local function check_places()
  if kinds.completed then
    redis.call('ZCARD', keys.completed)
  end
  if kinds.failed then
    redis.call('ZCARD', keys.failed)
  end
  if kinds.retry or kinds.requeue then
    redis.call('LLEN', keys.target)
    redis.call('ZCARD', keys.prioritized)
    redis.call('ZCARD', keys.delayed)
  end
end

local codes, ended_locks, ended_ids = {}, {}, {}
local concurrency = limit_of(meta[2])
local any_final = false
local ended = {completed = 0, failed = 0}
if #finishes > 0 then
  local locks = redis.call('MGET', unpack(lock_keys))
  local any_children = #children_keys > 0 and redis.call('EXISTS', unpack(children_keys)) > 0
  redis.call('XTRIM', keys.events, 'MAXLEN', '~', ensure_max_events(keys.meta, meta[5]))
  check_places()
  local any_runnable, any_delayed = false, false
  for index, finish in ipairs(finishes) do
    local stored = read_stored(finish.id)
    local code = refusal(finish, stored, locks[index], any_children)
    if code == 0 and redis.call('LREM', keys.active, -1, finish.id) == 0 then
      code = -3
    end
    codes[index] = code
    if code == 0 then
      ended_locks[#ended_locks + 1] = lock_keys[index]
      ended_ids[#ended_ids + 1] = finish.id
      if finish.kind == 'retry' then
        store_retry(keys, options, finish, stored, now_ms)
        any_delayed = any_delayed or finish.delay_ms > 0
        any_runnable = any_runnable or finish.delay_ms == 0
      elseif finish.kind == 'requeue' then
        store_requeue(keys, finish, stored)
        any_runnable = true
      else
        any_final = true
        ended[finish.kind] = ended[finish.kind] + 1
        note_retention(finish)
        store_end(keys, options, finish, stored, now_ms)
      end
    end
  end
  flush_retention('completed')
  flush_retention('failed')
  if ARGV[9] ~= '0' then
    measure(base, ended, tonumber(ARGV[9]), now_ms)
  end
  delete_keys(ended_locks)
  call_in_batches('SREM', keys.stalled, ended_ids)
  if any_runnable and not is_paused and not (concurrency and redis.call('LLEN', keys.active) >= concurrency) then
    wake_now(keys.marker)
  end
  if any_delayed then
    wake_at_next_due(keys.marker, keys.delayed)
  end
end

local taken, is_blocked = {0, 0}, false
if take_count > 0 then
  taken, is_blocked = take(keys, options, meta, take_count, now_ms)
end
if concurrency and not is_paused and #ended_ids > 0 and #taken == 2 then
  wake_for_freed(keys, concurrency)
end
-- Told when a job's end leaves nothing to do, as far as BullMQ looks.
if any_final and #taken == 2 and not is_blocked and taken[2] == 0
    and redis.call('LLEN', keys.wait) == 0 and redis.call('LLEN', keys.active) == 0
    and redis.call('ZCARD', keys.prioritized) == 0 then
  redis.call('XADD', keys.events, '*', 'event', 'drained')
end
return {codes, taken}
