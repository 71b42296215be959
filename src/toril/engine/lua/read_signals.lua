-- Read the numbers of many queues at once. A queue with a key of the wrong type spoils only its own answer.
--
-- KEYS, ten for each queue: wait (list), paused (list), active (list), prioritized (zset), delayed (zset),
--       waiting-children (zset), completed (zset), failed (zset), meta (hash), and the queue's base as a key name
-- ARGV[1] 1: also count locks by worker (reads every active job), else 0
-- Returns: {now (ms), {waiting, prioritized, active, delayed, delayed due, waiting-children, completed, failed,
--          is paused, timestamp of the next job or '', due time of the first delayed job (ms) or '', {worker, jobs...},
--          `concurrency`, `max` and `duration` of meta, each '' when not set, the value of `limiter` or '',
--          job schedulers whose slot is over for a minute, -1 when `repeat` is no sorted set}
--          or, for a queue with a key of the wrong type, the text of that error; for each queue}
-- Cost: O(queues × log n), and O(active) with locks. Reads only.
-- include: time
-- include: numbers
-- include: trying
local now_ms = server_now_ms()
local due_score = text_of((now_ms + 1) * 4096 - 1)
local OVERDUE_MS = 60000
local with_locks = ARGV[1] == '1'

-- A field of a job; '' when there is no such field, or something else in the job's place.
local function field_of(job_key, field)
  return try('HGET', job_key, field) or ''
end

local function count_locks(active_key, base)
  local jobs, order = {}, {}
  for _, job_id in ipairs(call('LRANGE', active_key, 0, 999)) do
    if call('EXISTS', base .. job_id .. ':lock') == 1 then
      local worker = field_of(base .. job_id, 'pb')
      if not jobs[worker] then
        jobs[worker] = 0
        order[#order + 1] = worker
      end
      jobs[worker] = jobs[worker] + 1
    end
  end
  local flat = {}
  for _, worker in ipairs(order) do
    flat[#flat + 1] = worker
    flat[#flat + 1] = jobs[worker]
  end
  return flat
end

-- Job schedulers whose slot is over for long; -1 when the key is something else.
local function count_overdue(key)
  return try('ZCOUNT', key, '-inf', text_of(now_ms - OVERDUE_MS)) or -1
end

local function read_queue(first)
  local wait, paused, active, prioritized, delayed = KEYS[first], KEYS[first + 1], KEYS[first + 2], KEYS[first + 3],
    KEYS[first + 4]
  local base = KEYS[first + 9]
  local next_id = call('LINDEX', wait, -1) or call('LINDEX', paused, -1)
  if not next_id then
    next_id = call('ZRANGE', prioritized, 0, 0)[1]
  end
  local meta = call('HMGET', KEYS[first + 8], 'paused', 'concurrency', 'max', 'duration')
  local limiter = try('GET', base .. 'limiter')
  local due_ms = due_time_of(call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2])
  return {
    call('LLEN', wait) + call('LLEN', paused), call('ZCARD', prioritized), call('LLEN', active),
    call('ZCARD', delayed), call('ZCOUNT', delayed, '-inf', due_score), call('ZCARD', KEYS[first + 5]),
    call('ZCARD', KEYS[first + 6]), call('ZCARD', KEYS[first + 7]), meta[1] and 1 or 0,
    next_id and field_of(base .. next_id, 'timestamp') or '', due_ms and text_of(math.floor(due_ms)) or '',
    with_locks and count_locks(active, base) or {}, meta[2] or '', meta[3] or '', meta[4] or '',
    limiter or '', count_overdue(base .. 'repeat'),
  }
end

local replies = {now_ms}
for first = 1, #KEYS, 10 do
  local is_fine, reply = pcall(read_queue, first)
  if not is_fine then
    reply = text_of_problem(reply)
    if not is_about_content(reply) then
      error(reply, 0)
    end
  end
  replies[#replies + 1] = reply
end
return replies
