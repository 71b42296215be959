-- Add jobs: store each, and put it where it waits. Time is the caller's: `timestamp` + `delay`, as BullMQ's clients do.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon    ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how many jobs there are   ARGV[4] how many kinds of jobs: what is the same for many is sent once
-- ARGV[5...] for each kind: name, opts (JSON), timestamp (ms), delay (ms), priority, lifo (1 or 0), links ('' = none, else
--            JSON: see linking.lua), whether its jobs have ids of their own (1 or 0 = the next number);
--            then for each run of jobs of one kind: number of the kind, from 1; how many; for each job: id, if the kind's
--            jobs have one; data (JSON)
-- Returns: the ids, in order; an id that existed is returned as it is and nothing is changed.
--          In place of the id of a job that is refused, and not written: -5 its parent is not there, -7 it belongs to
--          another parent.
-- Events: added, then waiting or delayed; duplicated.
-- Cost: O(jobs), with O(log n) for delayed and prioritized ones.
local args = ARGV
local base, count, KIND_FIELDS = args[1], tonumber(args[3]), 8
local first_run = 5 + tonumber(args[4]) * KIND_FIELDS

-- The plain case, which is most of what is added: jobs without ids of their own, delay, priority, lifo or ties, to a
-- queue that is not paused and has no limit. It is written out here and does exactly what the general case below would do,
-- whose many functions cost more to make than a job.

-- The queue's cap of events, when it is a plain one at this moment and the jobs are plain.
local function plain_max_events()
  if count > 1000 then
    return nil
  end
  for at = 5, first_run - 1, KIND_FIELDS do
    if args[at + 3] ~= '0' or args[at + 4] ~= '0' or args[at + 5] ~= '0' or args[at + 6] ~= '' or args[at + 7] ~= '0' then
      return nil
    end
  end
  local meta = call('HMGET', base .. 'meta', 'paused', 'concurrency', 'opts.maxLenEvents')
  if meta[1] or meta[2] or not meta[3] or #meta[3] > 15 or not string.find(meta[3], '^[1-9]%d*$') then
    return nil
  end
  return meta[3]
end

local function add_plain(max_events)
  local wait, marker, events = base .. 'wait', base .. 'marker', base .. 'events'
  -- The first write: a full Redis refuses it, as `refuse_when_full` says.
  local is_marked = call('ZADD', marker, '0', '0') == 1
  -- One function undoes all that `done` says, which it alone captures: each captured variable costs an allocation.
  local ids, names, event_ids = {}, {}, {}
  local done = {is_marked = is_marked, number = false, ids = ids, existed = false, is_waiting = false, event_ids = event_ids}
  undo[1] = function(run)
    for index = #done.event_ids, 1, -1 do
      run('XDEL', base .. 'events', done.event_ids[index])
    end
    if done.is_waiting then
      run('LPOP', base .. 'wait', args[3])
    end
    for index = #done.ids, 1, -1 do
      if not (done.existed and done.existed[index]) then
        run('DEL', base .. done.ids[index])
      end
    end
    if done.number and run('INCRBY', base .. 'id', -count) == 0 then
      run('DEL', base .. 'id')
    end
    if done.is_marked then
      run('ZREM', base .. 'marker', '0')
    end
  end
  call('XTRIM', events, 'MAXLEN', '~', max_events)
  local number = call('INCRBY', base .. 'id', args[3]) - count
  done.number = number
  -- To write a number out costs as much as a small command: of ten that follow each other only the first is.
  local digits = count > 9 and {'1', '2', '3', '4', '5', '6', '7', '8', '9', [0] = '0'}
  local at, tens, digit = first_run, '', number % 10
  if digits and digit < 9 and number >= 10 then
    tens = string.format('%.0f', (number - digit) / 10)
  end
  while at < #args do
    local kind_at, run_length = 5 + (tonumber(args[at]) - 1) * KIND_FIELDS, tonumber(args[at + 1])
    local name, opts, timestamp = args[kind_at], args[kind_at + 1], args[kind_at + 2]
    at = at + 2
    for index = #ids + 1, #ids + run_length do
      digit = digit + 1
      if digits and digit == 10 then
        digit, tens = 0, string.format('%.0f', (number + index) / 10)
      end
      local job_id = digits and number >= 0 and tens .. digits[digit] or string.format('%.0f', number + index)
      -- `priority` is set twice on purpose: with one lookup more Redis mostly ends the growth of a larger job's table, which
      -- else it keeps twice, small and large, until the job is read: 32 bytes.
      local new_fields = call('HSET', base .. job_id, 'name', name, 'data', args[at], 'opts', opts, 'timestamp', timestamp,
        'delay', '0', 'priority', '0', 'priority', '0')
      if new_fields ~= 6 then
        -- A job of this id was there before.
        done.existed = done.existed or {}
        done.existed[index] = true
      end
      ids[index], names[index], at = job_id, name, at + 1
    end
  end
  call('LPUSH', wait, unpack(ids))
  done.is_waiting = true
  for index = 1, #ids do
    event_ids[2 * index - 1] = call('XADD', events, '*', 'event', 'added', 'jobId', ids[index], 'name', names[index])
    event_ids[2 * index] = call('XADD', events, '*', 'event', 'waiting', 'jobId', ids[index])
  end
  return ids
end

local function general_case()
-- include: queue
-- include: batches
-- include: changing
  local queue = queue_of(base)

  local kinds, all_plain = {}, true
  for at = 5, first_run - 1, KIND_FIELDS do
    local kind = {
      name = args[at], opts = args[at + 1], timestamp = args[at + 2], delay = args[at + 3], priority = args[at + 4],
      is_lifo = args[at + 5] == '1', links = args[at + 6] ~= '' and cjson.decode(args[at + 6]),
      has_own_ids = args[at + 7] == '1',
    }
    kind.is_plain = not kind.links and kind.delay == '0' and kind.priority == '0'
    all_plain = all_plain and kind.is_plain
    -- Keys of another type would keep these jobs from their ends, or their parents from hearing of them.
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

  local number = call('INCRBY', queue.id, count) - count
  note_count(queue.id, count)
  local ids, front, back = {}, {}, {}

  -- New jobs enter on the left and leave on the right; LIFO ones enter where they leave.
  local function push_collected()
    call_in_batches('LPUSH', queue.target, front)
    call_in_batches('RPUSH', queue.target, back)
    front, back = {}, {}
  end

  -- What plain jobs do not need: for one of those, to make these functions would cost more than the job.
  local add_other_job
  local function add_other(kind, job_id, data)
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
      id = job_id, has_own_id = kind.has_own_ids, name = kind.name, data = data, opts = kind.opts, timestamp = kind.timestamp,
      delay = tonumber(kind.delay), priority = tonumber(kind.priority), is_lifo = kind.is_lifo,
    }, kind.links)
  end

  -- Add one job. Returns its id.
  local function add(kind, job_id, data)
    if kind.has_own_ids and not kind.links and call('EXISTS', base .. job_id) == 1 then
      emit(queue.events, '*', 'event', 'duplicated', 'jobId', job_id)
      return job_id
    end
    if not kind.is_plain then
      return add_other(kind, job_id, data)
    end
    note_new_hash(base .. job_id, call('HSET', base .. job_id, 'name', kind.name, 'data', data, 'opts', kind.opts,
      'timestamp', kind.timestamp, 'delay', '0', 'priority', '0'), 6)
    emit(queue.events, '*', 'event', 'added', 'jobId', job_id, 'name', kind.name)
    emit(queue.events, '*', 'event', 'waiting', 'jobId', job_id)
    local list = kind.is_lifo and back or front
    list[#list + 1] = job_id
    queue.has_runnable = true
    return job_id
  end

  local at = first_run
  while at < #args do
    local kind, run_length = kinds[tonumber(args[at])], tonumber(args[at + 1])
    at = at + 2
    for _ = 1, run_length do
      local job_id
      number = number + 1
      if kind.has_own_ids then
        job_id = args[at]
        at = at + 1
      else
        job_id = text_of(number)
      end
      ids[#ids + 1] = add(kind, job_id, args[at])
      at = at + 1
    end
  end
  push_collected()
  wake(queue)
  return ids
end

local max_events = plain_max_events()
if max_events and count > 0 then
  return add_plain(max_events)
end
return general_case()
