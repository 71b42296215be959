-- End active jobs, and take new ones in the same call. Time is Redis's. Safe to repeat: see the codes.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how many to take (0 = none)   ARGV[4] token   ARGV[5] length of the lock (ms)   ARGV[6] worker's name or ''
-- ARGV[7] worker's limit: jobs, or ''   ARGV[8] worker's limit: duration (ms), or ''
-- ARGV[9] minutes of metrics to keep (0 = none are written)
-- ARGV[10] size of the largest job that the worker reads (bytes)
-- ARGV[11] how many groups of jobs to end there are: what is the same for many is sent once
-- ARGV[12...] for each group: token, attempts started, attempts made with this one, kind (completed, failed, retry, requeue,
--            limit, delay or waiting-children), details ('' = none, else JSON: see finishing.lua), how many fields the jobs
--            had at their start if they were new ones then, tied to nothing (0 = they were not), the value that they share
--            ('' = each has its own); then the jobs to end, for each run of one group: number of the group, from 1; how
--            many; for each job: id, and if it has its own, value (JSON return value or reason)
-- Returns: {{code...}, taken}; no codes when all are 0
--   codes: 0 done, 1 was done already, -1 no such job, -2 no lock, -3 not active, -4 has pending children,
--          -6 locked by another, -9 has failed children. Below 0 nothing was written for that job.
--   taken: {rate limit (ms to wait, 0 = none, -1 = one that is not reached, -2 = the worker is flagged: see
--          `flag_workers`), due time of the first delayed job (ms, 0 = unknown), now (ms), job...}, each job
--          {id, attempts started with this one, {field, value...} as before it was taken}, or when it is new and tied to
--          nothing {name, data, opts, timestamp, delay, priority, id}. A job that is too large to be read has its small
--          fields alone, and its size (bytes) behind them; it takes no part in the rate limit
-- Events: completed or failed (and retries-exhausted), delayed, waiting, drained; those of taking; of a parent in its own
--         queue waiting or delayed.
-- Cost: O(ended + taken + removed by retention); O(ended × length of active) when others were started before them.
-- include: starting
-- include: ending
-- include: time
-- include: flags
local args = ARGV
local base, take_count, GROUP_FIELDS = args[1], tonumber(args[3]), 7
local first_run = 12 + args[11] * GROUP_FIELDS
local takes_nothing = take_count > 0 and is_flagged(base, args[6])

-- The plain case, which is most of what a busy worker does: jobs that completed, are kept, and are tied to nothing; others
-- that wait; and a queue without limits. It is written out here and does exactly what the general case below would do,
-- whose many functions cost more to make than such a job. Numbers are handed to Redis as text: what it takes to write one
-- out would be a small command.

-- The queue, when it is a plain one at this moment.
local function plain_queue()
  if take_count == 0 or takes_nothing or args[7] ~= '' or args[9] ~= '0' then
    return nil
  end
  for at = 12, first_run - 1, GROUP_FIELDS do
    if args[at + 3] ~= 'completed' or args[at + 4] ~= '' then
      return nil
    end
  end
  local waiting = call('LLEN', base .. 'wait')
  if waiting == 0 or waiting < take_count and call('ZCARD', base .. 'prioritized') > 0 then
    return nil
  end
  local meta = call('HMGET', base .. 'meta', 'paused', 'concurrency', 'max', 'opts.maxLenEvents')
  if meta[1] or meta[2] or meta[3] or not meta[4] or #meta[4] > 15 or not string.find(meta[4], '^[1-9]%d*$') then
    return nil
  end
  local now_ms, now = server_now_ms()
  -- Also one whose score is -inf is due.
  local first_score = tonumber(call('ZRANGE', base .. 'delayed', '0', '0', 'WITHSCORES')[2] or '')
  if first_score and first_score < (now_ms + 1) * 4096 then
    return nil
  end
  -- The second half says how far the call has come, for `undo`.
  return {
    base = base, wait = base .. 'wait', active = base .. 'active', events = base .. 'events', max_events = meta[4],
    waiting = waiting, now = now,
    removed = false, stored = 0, is_completed = false, taken = false, is_moved = false, is_marked = false, event_ids = {},
  }
end

-- The runs of jobs to end: {group_at, length, ids_at, step}, places in the arguments.
local function read_runs()
  local runs, at = {}, first_run
  while at <= #args do
    local group_at, length = 12 + (args[at] - 1) * GROUP_FIELDS, tonumber(args[at + 1])
    local step = args[group_at + 6] == '' and 2 or 1
    runs[#runs + 1] = {group_at, length, at + 2, step}
    at = at + 2 + length * step
  end
  return runs
end

-- The jobs to end, when all may end and are tied to nothing: lists of their ids, keys, names of locks, values and attempts.
local function plain_ends()
  local ids, keys, lock_keys, values, mades = {}, {}, {}, {}, {}
  local ends = {ids = ids, keys = keys, lock_keys = lock_keys, values = values, mades = mades}
  if first_run > #args then
    return ends
  end
  local runs, children_keys, count = read_runs(), {}, 0
  for _, run in ipairs(runs) do
    local made, shared = args[run[1] + 2], args[run[1] + 6]
    for place = 0, run[2] - 1 do
      local id_at = run[3] + place * run[4]
      local id = args[id_at]
      local key = base .. id
      count = count + 1
      ids[count], keys[count], lock_keys[count], mades[count] = id, key, key .. ':lock', made
      values[count] = shared ~= '' and shared or args[id_at + 1]
      children_keys[count * 2 - 1], children_keys[count * 2] = key .. ':dependencies', key .. ':unsuccessful'
    end
  end
  local tokens = call('MGET', unpack(lock_keys))
  if call('EXISTS', unpack(children_keys)) > 0 then
    return nil
  end
  local index = 0
  for _, run in ipairs(runs) do
    local token, fields = args[run[1]], tonumber(args[run[1] + 5])
    for _ = 1, run[2] do
      index = index + 1
      if tokens[index] ~= token then
        return nil
      end
      -- The same HLEN as at the job's start: no `deid` or `parentKey` was added, since fields are never deleted singly. With any
      -- other count, also 0 (the job was removed), the hash is read.
      if fields == 0 or call('HLEN', keys[index]) ~= fields then
        local stored = call('HMGET', keys[index], 'ats', 'deid', 'parentKey')
        if not stored[1] or stored[2] or stored[3] then
          return nil
        end
      end
    end
  end
  return ends
end

-- Take jobs out of `active`. Returns a code each when some are not there, else none.
local function remove_from_active(queue, ids)
  queue.removed = #ids > 1 and remove_oldest(queue.active, ids)
  if queue.removed then
    return {}
  end
  local codes, any_missing = {}, false
  queue.removed = {}
  -- From the last to the first: RPUSH puts them back in this order.
  for index = #ids, 1, -1 do
    codes[index] = call('LREM', queue.active, '-1', ids[index]) == 0 and -3 or 0
    if codes[index] == 0 then
      queue.removed[#queue.removed + 1] = ids[index]
    else
      any_missing = true
    end
  end
  return any_missing and codes or {}
end

-- Leave out of `ends` the jobs that have a code.
local function keep_ended(ends, codes)
  for word, list in pairs(ends) do
    local kept = {}
    for index = 1, #list do
      if codes[index] == 0 then
        kept[#kept + 1] = list[index]
      end
    end
    ends[word] = kept
  end
end

-- Complete the jobs, but for their events and locks. Returns a code each, none when all are 0.
local function complete(queue, ends)
  local codes = remove_from_active(queue, ends.ids)
  if #codes > 0 then
    keep_ended(ends, codes)
  end
  local ids, members = ends.ids, {}
  for index = 1, #ids do
    members[index * 2 - 1], members[index * 2] = queue.now, ids[index]
    call('HSET', ends.keys[index], 'atm', ends.mades[index], 'returnvalue', ends.values[index], 'finishedOn', queue.now)
    queue.stored = index
  end
  if #ids > 0 then
    call('ZADD', base .. 'completed', unpack(members))
    queue.is_completed = true
    call('SREM', base .. 'stalled', unpack(ids))
  end
  return codes
end

-- Take jobs, but for their events. Returns what was taken as the header says, and the ids of those that were started.
local function take_plain(queue)
  local taker = {token = args[4], lock_ms = args[5], worker_name = args[6], max_job_bytes = args[10] + 0}
  local ids
  if take_count == 1 then
    ids = {call('LMOVE', queue.wait, queue.active, 'RIGHT', 'LEFT')}
    queue.taken = ids
  else
    ids = call('RPOP', queue.wait, args[3])
    queue.taken = ids
    call('LPUSH', queue.active, unpack(ids))
  end
  queue.is_moved = true
  if queue.waiting < take_count then
    call('DEL', base .. 'pc')
  end
  local reply, taken, started = {0, 0, queue.now}, 3, {}
  for index = 1, #ids do
    local job = start_job(queue, taker, ids[index], queue.now)
    if job then
      taken = taken + 1
      reply[taken], started[taken - 3] = job, ids[index]
    end
  end
  queue.is_marked = call('ZADD', base .. 'marker', '0', '0') == 1
  if taken == 3 then
    -- None of the ids had a job.
    local head = call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
    -- Within what Redis can make an integer of.
    reply[2] = math.min(math.floor(due_time_of(head[2]) or 0), 2 ^ 53)
  end
  return reply, started
end

-- Write the events of the jobs that ended and of those that started, and then that the queue is drained, if it is.
local function write_events(queue, ends, started, drained)
  local events, event_ids, ended = queue.events, queue.event_ids, #ends.ids
  for index = 1, ended do
    event_ids[index] = call('XADD', events, '*', 'event', 'completed', 'jobId', ends.ids[index],
      'returnvalue', ends.values[index], 'prev', 'active')
  end
  for index = 1, #started do
    event_ids[ended + index] = call('XADD', events, '*', 'event', 'active', 'jobId', started[index], 'prev', 'waiting')
  end
  if drained then
    event_ids[#event_ids + 1] = call('XADD', events, '*', 'event', 'drained')
  end
end

local function general_case()
-- include: finishing
-- include: taking
  local queue = queue_of(base)
  local now_ms, now = server_now_ms()
  read_settings(queue, args[2])

  local codes, any_final = {}, false
  local finishes = read_finishes(read_runs())
  if #finishes > 0 then
    codes, any_final = end_jobs(queue, finishes, args[9], now_ms)
  end

  local taken, is_blocked = {0, 0, now}, false
  if queue.limited_ms then
    taken[1], is_blocked = queue.limited_ms, true
  elseif take_count > 0 then
    taken, is_blocked = take(queue, {
      token = args[4], lock_ms = args[5], worker_name = args[6], max_job_bytes = args[10] + 0,
      limit_max = tonumber(args[7]), limit_duration = tonumber(args[8]), is_flagged = takes_nothing,
    }, take_count, now_ms)
  end
  if queue.concurrency and not queue.is_paused and #finishes > 0 and #taken == 3 then
    wake_for_freed(queue, queue.concurrency)
  end
  if any_final and not is_blocked and is_drained(base, taken) then
    emit(queue.events, '*', 'event', 'drained')
  end
  return {codes, taken}
end

local queue = plain_queue()
local ends = queue and plain_ends()
if not ends then
  return general_case()
end
-- One function undoes all, by what `queue` says: to note each change by itself would cost as much as a job.
undo[1] = function(run)
  for index = 1, #queue.event_ids do
    run('XDEL', queue.events, queue.event_ids[index])
  end
  if queue.is_marked then
    run('ZREM', base .. 'marker', '0')
  end
  if queue.taken then
    undo_taking(run, queue, queue.is_moved and queue.taken or {}, queue.taken)
  end
  if queue.is_completed then
    run('ZREM', base .. 'completed', unpack(ends.ids))
  end
  for index = 1, queue.stored do
    local key, made = ends.keys[index], ends.mades[index]
    run('HDEL', key, 'returnvalue', 'finishedOn', made == '1' and 'atm' or nil)
    if made ~= '1' then
      run('HSET', key, 'atm', string.format('%.0f', made - 1))
    end
  end
  if queue.removed and #queue.removed > 0 then
    run('RPUSH', queue.active, unpack(queue.removed))
  end
end
-- The first write: Redis lets a script that has written go on when it is out of memory.
call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
local codes = #ends.ids > 0 and complete(queue, ends) or {}
local reply, started = take_plain(queue)
local any_ended = #ends.ids > 0
write_events(queue, ends, started, any_ended and is_drained(base, reply))
if any_ended then
  -- Last: no command gives a deleted lock the rest of its lifetime back.
  call('DEL', unpack(ends.lock_keys))
end
return {codes, reply}
