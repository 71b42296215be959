-- Add jobs: store each, and put it where it waits. Time is the caller's: `timestamp` + `delay`, as BullMQ's clients do.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon    ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how many kinds of jobs there are: what is the same for many is sent once
-- ARGV[4...] for each kind: name, opts (JSON), timestamp (ms), delay (ms), priority, lifo (1 or 0), links ('' = none, else
--            JSON: see linking.lua); then for each job: number of its kind, from 1; id ('' = the next number); data (JSON)
-- Returns: the ids, in order; an id that existed is returned as it is and nothing is changed.
-- Events: added, then waiting or delayed; duplicated.
-- Cost: O(jobs), with O(log n) for delayed and prioritized ones.
-- include: calls
-- include: queue
-- include: batches
local args = ARGV
local queue = queue_of(args[1])
local base, events = queue.base, queue.events
local KIND_FIELDS, JOB_FIELDS = 7, 3
local first_job = 4 + tonumber(args[3]) * KIND_FIELDS
local count = (#args - first_job + 1) / JOB_FIELDS

local kinds, all_plain = {}, true
for at = 4, first_job - 1, KIND_FIELDS do
  local kind = {
    name = args[at], opts = args[at + 1], timestamp = args[at + 2], delay = args[at + 3], priority = args[at + 4],
    is_lifo = args[at + 5] == '1', links = args[at + 6] ~= '' and cjson.decode(args[at + 6]),
  }
  kind.is_plain = not kind.links and kind.delay == '0' and kind.priority == '0'
  all_plain = all_plain and kind.is_plain
  -- Keys of another type must fail here, before anything is written.
  local links = kind.links or {}
  if links.deduplication then
    call('STRLEN', base .. 'de:' .. links.deduplication.id)
    call('HLEN', base .. 'dn:' .. links.deduplication.id)
  end
  if links.parentKey then
    call('SCARD', links.parentKey .. ':dependencies')
    call('HLEN', links.parentKey .. ':processed')
  end
  kinds[#kinds + 1] = kind
end
queue.is_adding = all_plain and 'plain' or 'any'
read_settings(queue, args[2])

local last_number = call('INCRBY', queue.id, count)
local ids, front, back = {}, {}, {}

-- New jobs enter on the left and leave on the right; LIFO ones enter where they leave.
local function push_collected()
  call_in_batches('LPUSH', queue.target, front)
  call_in_batches('RPUSH', queue.target, back)
  front, back = {}, {}
end

-- What plain jobs do not need: for one of those, to make these functions would cost more than the job.
local add_other_job
local function add_other(kind, job_id, has_own_id, data)
  if not add_other_job then
-- include: storing
-- include: linking
    add_other_job = function(job, links)
      if links then
        push_collected()
        return add_linked(queue, job, links)
      end
      store_new(queue, job)
      if place_new(queue, job) == 'wait' then
        local list = job.is_lifo and back or front
        list[#list + 1] = job.id
      end
      return job.id
    end
  end
  return add_other_job({
    id = job_id, has_own_id = has_own_id, name = kind.name, data = data, opts = kind.opts, timestamp = kind.timestamp,
    delay = tonumber(kind.delay), priority = tonumber(kind.priority), is_lifo = kind.is_lifo,
  }, kind.links)
end

for index = 1, count do
  local at = first_job + (index - 1) * JOB_FIELDS
  local kind, job_id, data = kinds[tonumber(args[at])], args[at + 1], args[at + 2]
  local has_own_id = job_id ~= ''
  if not has_own_id then
    job_id = text_of(last_number - count + index)
  end
  if has_own_id and not kind.links and call('EXISTS', base .. job_id) == 1 then
    call('XADD', events, '*', 'event', 'duplicated', 'jobId', job_id)
  elseif kind.is_plain then
    call('HSET', base .. job_id, 'name', kind.name, 'data', data, 'opts', kind.opts, 'timestamp', kind.timestamp,
      'delay', '0', 'priority', '0')
    call('XADD', events, '*', 'event', 'added', 'jobId', job_id, 'name', kind.name)
    call('XADD', events, '*', 'event', 'waiting', 'jobId', job_id)
    local list = kind.is_lifo and back or front
    list[#list + 1] = job_id
    queue.has_runnable = true
  else
    job_id = add_other(kind, job_id, has_own_id, data)
  end
  ids[index] = job_id
end
push_collected()
wake(queue)
return ids
