-- Add jobs: store each, and put it where it waits. Time is the caller's: `timestamp` + `delay`, as BullMQ's clients do.
--
-- KEYS[1] wait (list)         KEYS[2] paused (list)       KEYS[3] meta (hash)
-- KEYS[4] id (string)         KEYS[5] delayed (zset)      KEYS[6] prioritized (zset)
-- KEYS[7] pc (string)         KEYS[8] marker (zset)       KEYS[9] active (list)      KEYS[10] events (stream)
-- ARGV[1] base of the queue's keys, with colon    ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3...] for each job: id ('' = the next number), name, data (JSON), opts (JSON), timestamp (ms), delay (ms),
--            priority, lifo (1 or 0)
-- Returns: the ids, in order; an id that existed is returned as it is and nothing is changed.
-- Events: added, then waiting or delayed; duplicated.
-- Cost: O(jobs), with O(log n) for delayed and prioritized ones.
-- include: placing
-- include: batches
-- include: waking
local wait_key, paused_key, meta_key, id_key, delayed_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local prioritized_key, pc_key, marker_key, active_key, events_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local base, layout = ARGV[1], ARGV[2]
local FIELDS = 8
local count = (#ARGV - 2) / FIELDS

local meta = redis.call('HMGET', meta_key, 'paused', 'concurrency', 'opts.maxLenEvents')
local is_paused = meta[1] and true or false
local target_key = waiting_list(wait_key, paused_key, meta_key, layout, is_paused)

-- A key of another type must fail here, before anything is written.
redis.call('LLEN', target_key)
redis.call('XLEN', events_key)
redis.call('ZCARD', delayed_key)
redis.call('ZCARD', prioritized_key)
redis.call('ZCARD', marker_key)

local is_maxed = meta[2] and redis.call('LLEN', active_key) >= tonumber(meta[2])
local max_events = ensure_max_events(meta_key, meta[3])
local last_number = redis.call('INCRBY', id_key, count)
local ids, front, back = {}, {}, {}
local any_runnable, any_delayed = false, false

for index = 1, count do
  local at = 2 + (index - 1) * FIELDS
  local job_id, timestamp, delay = ARGV[at + 1], tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local priority = tonumber(ARGV[at + 7])
  local is_new = true
  if job_id == '' then
    job_id = text_of(last_number - count + index)
  elseif redis.call('EXISTS', base .. job_id) == 1 then
    is_new = false
    redis.call('XADD', events_key, 'MAXLEN', '~', max_events, '*', 'event', 'duplicated', 'jobId', job_id)
  end
  ids[index] = job_id
  if is_new then
    redis.call('HSET', base .. job_id, 'name', ARGV[at + 2], 'data', ARGV[at + 3], 'opts', ARGV[at + 4],
      'timestamp', ARGV[at + 5], 'delay', ARGV[at + 6], 'priority', ARGV[at + 7])
    if index == 1 then
      redis.call('XADD', events_key, 'MAXLEN', '~', max_events, '*',
        'event', 'added', 'jobId', job_id, 'name', ARGV[at + 2])
    else
      redis.call('XADD', events_key, '*', 'event', 'added', 'jobId', job_id, 'name', ARGV[at + 2])
    end
    if delay > 0 then
      any_delayed = true
      place_delayed(delayed_key, events_key, job_id, timestamp + delay)
    else
      any_runnable = true
      if priority > 0 then
        redis.call('ZADD', prioritized_key, prioritized_score(priority, pc_key), job_id)
      elseif ARGV[at + 8] == '1' then
        back[#back + 1] = job_id
      else
        front[#front + 1] = job_id
      end
      redis.call('XADD', events_key, '*', 'event', 'waiting', 'jobId', job_id)
    end
  end
end

-- New jobs enter on the left and leave on the right; LIFO ones enter where they leave.
call_in_batches('LPUSH', target_key, front)
call_in_batches('RPUSH', target_key, back)
if any_runnable and not is_paused and not is_maxed then
  wake_now(marker_key)
end
if any_delayed then
  wake_at_next_due(marker_key, delayed_key)
end
return ids
