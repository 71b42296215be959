-- Add jobs: store each, and put it where it waits. Time is the caller's: `timestamp` + `delay`, as BullMQ's clients do.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon    ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3...] for each job: id ('' = the next number), name, data (JSON), opts (JSON), timestamp (ms), delay (ms),
--            priority, lifo (1 or 0), links ('' = none, else JSON: see linking.lua)
-- Returns: the ids, in order; an id that existed is returned as it is and nothing is changed.
-- Events: added, then waiting or delayed; duplicated.
-- Cost: O(jobs), with O(log n) for delayed and prioritized ones.
-- include: linking
local queue = queue_of(ARGV[1])
read_settings(queue, ARGV[2])
local base, target_key = queue.base, queue.target
local FIELDS = 9
local count = (#ARGV - 2) / FIELDS

-- A key of another type must fail here, before anything is written.
redis.call('LLEN', target_key)
redis.call('XLEN', queue.events)
redis.call('ZCARD', queue.delayed)
redis.call('ZCARD', queue.prioritized)
redis.call('ZCARD', queue.marker)

local last_number = redis.call('INCRBY', queue.id, count)
local ids, front, back = {}, {}, {}

-- New jobs enter on the left and leave on the right; LIFO ones enter where they leave.
local function push_collected()
  call_in_batches('LPUSH', target_key, front)
  call_in_batches('RPUSH', target_key, back)
  front, back = {}, {}
end

local function read_new_job(at, number)
  return {
    id = ARGV[at + 1] == '' and text_of(number) or ARGV[at + 1], has_own_id = ARGV[at + 1] ~= '',
    name = ARGV[at + 2], data = ARGV[at + 3], opts = ARGV[at + 4], timestamp = ARGV[at + 5],
    delay = tonumber(ARGV[at + 6]), priority = tonumber(ARGV[at + 7]), is_lifo = ARGV[at + 8] == '1',
  }
end

for index = 1, count do
  local at = 2 + (index - 1) * FIELDS
  local number = last_number - count + index
  if ARGV[at + 9] ~= '' then
    push_collected()
    ids[index] = add_linked(queue, read_new_job(at, number), cjson.decode(ARGV[at + 9]))
  else
    local job = read_new_job(at, number)
    ids[index] = job.id
    if job.has_own_id and redis.call('EXISTS', base .. job.id) == 1 then
      redis.call('XADD', queue.events, 'MAXLEN', '~', queue.max_events, '*', 'event', 'duplicated', 'jobId', job.id)
    else
      store_new(queue, job)
      if place_new(queue, job) == 'wait' then
        local list = job.is_lifo and back or front
        list[#list + 1] = job.id
      end
    end
  end
end
push_collected()
wake(queue)
return ids
