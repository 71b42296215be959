-- include: retaining
-- include: deduplicating
-- include: promoting
-- include: waking
-- include: parents
-- What becomes of an active job. Each function ends one job whose lock has been checked.

-- One job's end as the caller wants it; `at` is the index before its arguments.
local FINISH_FIELDS = 12
local function read_finish(at)
  return {
    id = ARGV[at + 1], token = ARGV[at + 2], ats = ARGV[at + 3], atm = tonumber(ARGV[at + 4]),
    kind = ARGV[at + 5], value = ARGV[at + 6], stacktrace = ARGV[at + 7], delay_ms = tonumber(ARGV[at + 8]),
    keep_count = tonumber(ARGV[at + 9]), keep_age_ms = tonumber(ARGV[at + 10]), keep_limit = tonumber(ARGV[at + 11]),
    attempts = tonumber(ARGV[at + 12]),
  }
end

-- Whether a finish whose lock is gone is a repetition: nobody has started the job since, and its end is stored.
local function was_done(finish, stored)
  if stored.ats ~= finish.ats then
    return false
  end
  if finish.kind == 'completed' or finish.kind == 'failed' then
    return stored.finished_on and true or false
  end
  return finish.kind == 'retry' and stored.atm == finish.atm + 1
end

local function store_end(keys, options, finish, stored, now_ms)
  local job_key = options.base .. finish.id
  local attempts_made = stored.atm + 1
  local is_completed = finish.kind == 'completed'
  local field = is_completed and 'returnvalue' or 'failedReason'
  if stored.deduplication_id then
    end_deduplication(options.base, options.layout, stored.deduplication_id, finish.id, now_ms)
  end
  if stored.parent_key then
    child_ended(job_key, finish, options.layout, now_ms)
  end
  if finish.keep_count == 0 then
    delete_jobs(options.base, {finish.id})
  else
    local now, atm = text_of(now_ms), text_of(attempts_made)
    if is_completed then
      redis.call('HSET', job_key, 'atm', atm, field, finish.value, 'finishedOn', now)
    else
      redis.call('HSET', job_key, 'atm', atm, field, finish.value, 'finishedOn', now, 'stacktrace', finish.stacktrace)
      redis.call('HDEL', job_key, 'defa')
    end
    redis.call('ZADD', is_completed and keys.completed or keys.failed, now, finish.id)
  end
  redis.call('XADD', keys.events, '*', 'event', finish.kind, 'jobId', finish.id, field, finish.value, 'prev', 'active')
  if not is_completed and attempts_made >= finish.attempts then
    redis.call('XADD', keys.events, '*', 'event', 'retries-exhausted', 'jobId', finish.id,
      'attemptsMade', text_of(attempts_made))
  end
end

-- Back to a runnable place. `push` is the side of `wait`; `score` that in `prioritized`.
local function make_runnable(keys, finish, stored, push, score)
  if stored.priority > 0 then
    redis.call('ZADD', keys.prioritized, score or prioritized_score(stored.priority, keys.pc), finish.id)
  else
    redis.call(push, keys.target, finish.id)
  end
  redis.call('XADD', keys.events, '*', 'event', 'waiting', 'jobId', finish.id, 'prev', 'active')
end

local function store_retry(keys, options, finish, stored, now_ms)
  local job_key = options.base .. finish.id
  local attempts_made = text_of(stored.atm + 1)
  if finish.delay_ms > 0 then
    redis.call('HSET', job_key, 'failedReason', finish.value, 'stacktrace', finish.stacktrace,
      'atm', attempts_made, 'delay', text_of(finish.delay_ms))
    place_delayed(keys.delayed, keys.events, finish.id, now_ms + finish.delay_ms)
    return
  end
  redis.call('HSET', job_key, 'failedReason', finish.value, 'stacktrace', finish.stacktrace, 'atm', attempts_made)
  -- As in BullMQ, jobs that are due go first.
  promote_due(now_ms, options.base, keys.delayed, keys.target, keys.prioritized, keys.pc, keys.events)
  local is_lifo = string.find(stored.opts, '"lifo":true', 1, true)
  make_runnable(keys, finish, stored, is_lifo and 'RPUSH' or 'LPUSH')
end

-- Back to the front of the line, the attempt not charged.
local function store_requeue(keys, finish, stored)
  make_runnable(keys, finish, stored, 'RPUSH', text_of(stored.priority * 4294967296))
end
