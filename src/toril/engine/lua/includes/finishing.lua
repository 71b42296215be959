-- include: ending
-- include: queue
-- include: batches
-- include: changing
-- include: removing
-- include: promoting
-- What becomes of active jobs. `queue` is as `queue_of` and `read_settings` make it. A finish is
--   {id, token, ats, made, kind, value, details, key, deduplication_id, parent_key, stored (fields, see `WRITTEN`)}
-- with details {stacktrace (JSON array), delay_ms (of a retry, limit or delay), keep_count, keep_age_ms, keep_limit (nil =
-- no limit), attempts (allowed), is_unstarted (of a requeue: its having been taken is no start), stalled_before (of a
-- finish that was sent before and not answered: how often the job had stalled when it was taken), is_cleared (of a
-- suspect: its worker has outlived it)}, all of which may be missing.

local NO_DETAILS = {}
-- The fields of a job's hash that its end may write; of one that completes, of whose fields only `atm` is there before.
local WRITTEN = {'atm', 'returnvalue', 'finishedOn', 'failedReason', 'stacktrace', 'defa', 'delay'}
local WRITTEN_BY_COMPLETED = {'atm', 'returnvalue', 'finishedOn'}

-- What few ends need is made when one does: to make these functions would cost every call as much as some jobs.
local rare
local function rarely()
  if not rare then
-- include: retaining
-- include: deduplicating
-- include: parents
-- include: measuring
-- include: signalling
    rare = {
      measure = measure, retain = retain, end_deduplication = end_deduplication, child_ended = child_ended,
      set_aside = set_aside,
    }
  end
  return rare
end

-- Read the finishes of runs, which are as `read_runs` makes them. Jobs of a group share their details.
local function read_finishes(runs)
  local args, details_at, finishes = ARGV, {}, {}
  for _, run in ipairs(runs) do
    local at, shared = run[1], args[run[1] + 6]
    local text = args[at + 4]
    local details = details_at[at] or text == '' and NO_DETAILS or cjson.decode(text)
    details_at[at] = details
    for place = 0, run[2] - 1 do
      local id_at = run[3] + place * run[4]
      finishes[#finishes + 1] = {
        id = args[id_at], token = args[at], ats = args[at + 1], made = args[at + 2], kind = args[at + 3],
        value = shared ~= '' and shared or args[id_at + 1], details = details, key = args[1] .. args[id_at],
      }
    end
  end
  return finishes
end

-- Whether a finish whose lock is gone is a repetition: no worker has started the job since, and its end is stored.
local function was_done(finish, ats)
  if ats ~= finish.ats then
    return false
  end
  if finish.kind == 'completed' or finish.kind == 'failed' then
    return call('HEXISTS', finish.key, 'finishedOn') == 1
  end
  local older, made = unpack(call('HMGET', finish.key, 'attemptsMade', 'atm'))
  return finish.kind == 'retry' and number_of(older or made) == tonumber(finish.made)
end

-- Whether a finish that is sent again was carried out, whatever others have done with the job since: it is not ours any
-- more, and but for its worker's end of it, a job leaves its worker only by stalling.
local function had_left(finish, ats, lock)
  local stalled_before = finish.details.stalled_before
  return stalled_before and number_of(call('HGET', finish.key, 'stc')) == stalled_before
    and (lock or ats ~= finish.ats or not call('LPOS', ARGV[1] .. 'active', finish.id))
end

-- The code of a finish that may not be carried out, or 0. `ats` is the stored one, false when there is none.
local function refusal(finish, ats, lock, any_children)
  if not ats and call('EXISTS', finish.key) == 0 then
    return -1
  end
  if lock ~= finish.token then
    if had_left(finish, ats, lock) then
      return 1
    elseif lock then
      return -6
    end
    return was_done(finish, ats) and 1 or -2
  end
  if finish.kind == 'waiting-children' then
    if call('ZCARD', finish.key .. ':unsuccessful') > 0 then
      return -9
    end
  end
  if any_children and finish.kind == 'completed' then
    if call('SCARD', finish.key .. ':dependencies') > 0 then
      return -4
    end
    if call('ZCARD', finish.key .. ':unsuccessful') > 0 then
      return -9
    end
  end
  return 0
end

-- Read the jobs, up to the first that is the parent or a child of one before: what the end of that one does, its own
-- check is to see. Note what they are tied to. Writes nothing. Returns a code each, and the names of the locks.
local function check_finishes(finishes)
  local codes, lock_keys, children_keys, keys, parent_keys = {}, {}, {}, {}, {}
  for index = 1, #finishes do
    local finish = finishes[index]
    lock_keys[index] = finish.key .. ':lock'
    if finish.kind == 'completed' then
      local last = #children_keys
      children_keys[last + 1], children_keys[last + 2] = finish.key .. ':dependencies', finish.key .. ':unsuccessful'
    end
  end
  local locks = call('MGET', unpack(lock_keys))
  local any_children = #children_keys > 0 and call('EXISTS', unpack(children_keys)) > 0
  for index = 1, #finishes do
    local finish = finishes[index]
    local is_completed = finish.kind == 'completed'
    local stored = call('HMGET', finish.key, 'ats', 'deid', 'parentKey', unpack(WRITTEN, 1, is_completed and 1 or #WRITTEN))
    local parent_key = stored[3]
    finish.stored = {unpack(stored, 4, 3 + #WRITTEN)}
    if parent_keys[finish.key] or parent_key and keys[parent_key] then
      break
    end
    keys[finish.key] = true
    if parent_key then
      parent_keys[parent_key] = true
    end
    if stored[2] or parent_key then
      finish.deduplication_id, finish.parent_key = stored[2], parent_key
    end
    codes[index] = refusal(finish, stored[1], locks[index], any_children)
  end
  return codes, lock_keys
end

-- Take the jobs that may end out of `active`; one that is not there gets its code.
local function remove_from_active(queue, finishes, codes)
  local ids = {}
  for index = 1, #finishes do
    if codes[index] == 0 then
      ids[#ids + 1] = finishes[index].id
    end
  end
  queue.is_active_known = #ids > 0
  local removed = #ids > 1 and remove_oldest(queue.active, ids)
  if removed then
    undo_by('RPUSH', queue.active, unpack(removed))
    return
  end
  for index = 1, #finishes do
    if codes[index] == 0 then
      if call('LREM', queue.active, -1, finishes[index].id) == 0 then
        codes[index] = -3
      else
        undo_by('RPUSH', queue.active, finishes[index].id)
      end
    end
  end
end

-- Note, before a job's hash is written, how it is put back.
local function keep_hash(finish)
  undo[#undo + 1] = function(run)
    put_fields_back(run, finish.key, finish.kind == 'completed' and WRITTEN_BY_COMPLETED or WRITTEN, finish.stored)
  end
end

-- Store a run of ends of one kind with the same details, as if one after the other.
local function store_ends(queue, ends, now_ms)
  local now, kind, details = text_of(now_ms), ends[1].kind, ends[1].details
  local is_completed, keeps = kind == 'completed', details.keep_count ~= 0
  local field = is_completed and 'returnvalue' or 'failedReason'
  local members, ids = {}, {}
  for index = 1, #ends do
    local finish = ends[index]
    ids[index] = finish.id
    members[index * 2 - 1], members[index * 2] = now, finish.id
    if finish.deduplication_id then
      rarely().end_deduplication(queue.base, queue.layout, finish.deduplication_id, finish.id, now_ms)
    end
    if finish.parent_key then
      finish.keep_count = details.keep_count
      rarely().child_ended(finish.key, finish, queue.layout, now_ms)
    end
    if keeps then
      keep_hash(finish)
    end
    if keeps and is_completed then
      call('HSET', finish.key, 'atm', finish.made, field, finish.value, 'finishedOn', now)
    elseif keeps then
      -- First, since what HDEL removes can be put back by HSET, but not the other way round.
      call('HDEL', finish.key, 'defa')
      call('HSET', finish.key, 'atm', finish.made, field, finish.value, 'finishedOn', now,
        'stacktrace', details.stacktrace or '[]')
    end
    emit(queue.events, '*', 'event', kind, 'jobId', finish.id, field, finish.value, 'prev', 'active')
    if not is_completed and tonumber(finish.made) >= (details.attempts or 0) then
      emit(queue.events, '*', 'event', 'retries-exhausted', 'jobId', finish.id, 'attemptsMade', finish.made)
    end
  end
  if not keeps then
    delete_jobs(queue.base, ids)
    return
  end
  local target = is_completed and queue.completed or queue.failed
  call_in_batches('ZADD', target, members, 'ZREM', ids)
  if details.keep_count or details.keep_age_ms then
    rarely().retain(queue.base, target, now_ms, details.keep_count, details.keep_age_ms, details.keep_limit,
      not is_completed and queue.layout)
  end
end

-- Back to a runnable place: for another attempt, or (a requeue) to the front of the line.
local function make_runnable(queue, finish)
  local stored = call('HMGET', finish.key, 'priority', 'opts')
  local priority, is_requeue = number_of(stored[1]), finish.kind ~= 'retry'
  if priority > 0 then
    local score = is_requeue and text_of(priority * 4294967296) or prioritized_score(priority, queue.pc)
    call('ZADD', queue.prioritized, score, finish.id)
    undo_by('ZREM', queue.prioritized, finish.id)
  else
    local is_lifo = string.find(stored[2] or '', '"lifo":true', 1, true)
    place_in_list((is_requeue or is_lifo) and 'RPUSH' or 'LPUSH', queue.target, finish.id)
  end
  if finish.details.is_unstarted then
    -- Workers fail a job that was started too often without running it, BullMQ's among them.
    call('HSET', finish.key, 'ats', text_of(math.max(tonumber(finish.ats) - 1, 0)))
    undo_by('HSET', finish.key, 'ats', finish.ats)
  end
  emit(queue.events, '*', 'event', 'waiting', 'jobId', finish.id, 'prev', 'active')
  queue.has_runnable = true
end

local function store_retry(queue, finish, now_ms)
  local delay_ms = finish.details.delay_ms or 0
  keep_hash(finish)
  call('HSET', finish.key, 'failedReason', finish.value, 'stacktrace', finish.details.stacktrace or '[]',
    'atm', finish.made)
  if delay_ms > 0 then
    call('HSET', finish.key, 'delay', text_of(delay_ms))
    place_delayed(queue.delayed, queue.events, finish.id, now_ms + delay_ms)
    queue.has_delayed = true
  else
    -- As in BullMQ, jobs that are due go first; once a call, since they may be many.
    if not queue.has_promoted then
      queue.has_promoted = true
      promote_due(now_ms, queue.base, queue.delayed, queue.target, queue.prioritized, queue.pc, queue.events)
    end
    make_runnable(queue, finish)
  end
end

-- Store what becomes of the jobs whose code is 0, in order. Returns how many have ended for good, by kind.
local function store_all(queue, finishes, codes, now_ms)
  local run, ended = {}, {completed = 0, failed = 0}
  local function store_run()
    if #run > 0 then
      store_ends(queue, run, now_ms)
      ended[run[1].kind] = ended[run[1].kind] + #run
      run = {}
    end
  end
  for index = 1, #finishes do
    local finish = finishes[index]
    if codes[index] == 0 then
      if #run > 0 and (run[1].kind ~= finish.kind or run[1].details ~= finish.details) then
        store_run()
      end
      if finish.kind == 'completed' or finish.kind == 'failed' then
        run[#run + 1] = finish
      elseif finish.kind == 'retry' then
        store_retry(queue, finish, now_ms)
      elseif finish.kind == 'requeue' or rarely().set_aside(queue, finish, now_ms) then
        make_runnable(queue, finish)
      end
    end
  end
  store_run()
  return ended
end

-- End jobs, as many of them as can be checked at once. Returns a code each, and how many have ended for good.
local function end_some(queue, finishes, metrics_minutes, now_ms)
  local codes, lock_keys = check_finishes(finishes)
  for index = #finishes, #codes + 1, -1 do
    finishes[index] = nil
  end
  -- The first write: Redis lets a script that has written go on when it is out of memory.
  call('XTRIM', queue.events, 'MAXLEN', '~', queue.max_events)
  queue.is_trimmed = true
  remove_from_active(queue, finishes, codes)
  local ended_locks, ended_ids, tokens = {}, {}, {}
  for index = 1, #finishes do
    if codes[index] == 0 then
      local place = #ended_ids + 1
      ended_locks[place], ended_ids[place], tokens[place] = lock_keys[index], finishes[index].id, finishes[index].token
      if finishes[index].details.is_cleared then
        change('HDEL', finishes[index].key, 'torilSuspect')
      end
    end
  end
  local ended = store_all(queue, finishes, codes, now_ms)
  if metrics_minutes ~= '0' then
    rarely().measure(queue.base, ended, tonumber(metrics_minutes), now_ms)
  end
  if #ended_locks > 0 then
    call('DEL', unpack(ended_locks))
    undo[#undo + 1] = function(run)
      for index = 1, #ended_locks do
        run('SET', ended_locks[index], tokens[index], 'PX', ARGV[5])
      end
    end
  end
  call_in_batches('SREM', queue.stalled, ended_ids)
  queue.is_maxed = queue.concurrency ~= nil and call('LLEN', queue.active) >= queue.concurrency
  wake(queue)
  return codes, ended.completed + ended.failed
end

-- End jobs, in order. `metrics_minutes`: text, '0' = no metrics. Returns a code each, and whether any has ended for good.
local function end_jobs(queue, finishes, metrics_minutes, now_ms)
  local codes, any_final = {}, false
  while #codes < #finishes do
    local some, ended = end_some(queue, {unpack(finishes, #codes + 1)}, metrics_minutes, now_ms)
    for index = 1, #some do
      codes[#codes + 1] = some[index]
    end
    any_final = any_final or ended > 0
  end
  return codes, any_final
end
