-- include: discarding
-- Removing many jobs of one place, a window a call.

local LISTS = {wait = true, paused = true, active = true}
-- Which fields give a job's age, the first that it has; finished jobs and parents are old by their score.
local LIST_AGES = {'finishedOn', 'processedOn', 'timestamp'}
local AGES = {delayed = {'processedOn', 'timestamp'}, prioritized = {'timestamp'}}
-- Stands for a removed entry of a list until it is cleared of all of them.
local REMOVED = ''

local function is_young(job_key, fields, cutoff_ms)
  for _, text in ipairs(call('HMGET', job_key, unpack(fields))) do
    if text then
      return number_of(text) > cutoff_ms
    end
  end
  return false
end

-- The window's ids, those first that have been there longest; and their scores, for a set.
local function read_window(queue, place, cutoff_ms, skip, count)
  local key = queue.base .. place
  if LISTS[place] then
    local found = call('LRANGE', key, -(skip + count), -(skip + 1))
    local ids = {}
    for index = #found, 1, -1 do
      ids[#ids + 1] = found[index]
    end
    return ids
  end
  local found, ids, scores = nil, {}, {}
  if cutoff_ms and not AGES[place] then
    found = call('ZRANGEBYSCORE', key, '-inf', text_of(cutoff_ms), 'WITHSCORES', 'LIMIT', skip, count)
  else
    found = call('ZRANGE', key, skip, skip + count - 1, 'WITHSCORES')
  end
  for index = 1, #found, 2 do
    ids[#ids + 1] = found[index]
    scores[found[index]] = found[index + 1]
  end
  return ids, scores
end

-- Take ids out of a set.
local function cut_from_set(key, ids, scores)
  local members = {}
  for index, job_id in ipairs(ids) do
    members[index * 2 - 1], members[index * 2] = scores[job_id], job_id
  end
  call_in_batches('ZREM', key, ids, 'ZADD', members)
end

-- For `undo`: put entries back that were taken out of a list, by their ranks from its end.
local function put_at_ranks(run, key, ids_by_rank)
  local ranks = {}
  for rank in pairs(ids_by_rank) do
    ranks[#ranks + 1] = rank
  end
  table.sort(ranks)
  for _, rank in ipairs(ranks) do
    local before = redis.pcall('LINDEX', key, -rank)
    if type(before) == 'string' and rank > 1 then
      run('LINSERT', key, 'AFTER', before, ids_by_rank[rank])
    else
      run(rank == 1 and 'RPUSH' or 'LPUSH', key, ids_by_rank[rank])
    end
  end
end

-- Take entries out of the window of ranks `first` to `last` from a list's end; `leaving`: jobs by rank.
local function cut_from_end(key, leaving, first, last)
  if first <= last - first + 1 then
    -- Not far in: cutting the end off and putting back what stays is much cheaper than changing entries one by one.
    local tail, kept = call('LRANGE', key, -last, -1), {}
    for index, job_id in ipairs(tail) do
      if not leaving[#tail - index + 1] then
        kept[#kept + 1] = job_id
      end
    end
    call('LTRIM', key, 0, -last - 1)
    undo[#undo + 1] = {'RPUSH', key, tail}
    call_in_batches('RPUSH', key, kept)
    return
  end
  local count, ids_by_rank = 0, {}
  for rank, job in pairs(leaving) do
    call('LSET', key, -rank, REMOVED)
    undo_by('LSET', key, -rank, job.id)
    count, ids_by_rank[rank] = count + 1, job.id
  end
  call('LREM', key, -count, REMOVED)
  undo[#undo + 1] = function(run)
    put_at_ranks(run, key, ids_by_rank)
  end
end

-- Remove jobs of `place` (a key's name without base), looking at `count` of them behind the first `skip`. Kept are armed
-- iterations of schedulers, running jobs, and with a cutoff (ms) what is younger. Parents: see `detach_child`, hard.
-- Returns the removed ids and how many were read.
local function sweep(queue, place, cutoff_ms, skip, count, layout)
  local key = queue.base .. place
  local is_list = LISTS[place]
  local ages = is_list and LIST_AGES or AGES[place]
  local ids, scores = read_window(queue, place, cutoff_ms, skip, count)
  local leaving, removed = {}, {}
  for index, job_id in ipairs(ids) do
    local job = read_ties(queue, job_id)
    local is_kept = not job.is_foreign and (
      ages and is_armed(queue, job)
      or place == 'active' and call('EXISTS', job.key .. ':lock') == 1
      or cutoff_ms and ages and is_young(job.key, ages, cutoff_ms))
    if not is_kept then
      leaving[skip + index] = job
      removed[#removed + 1] = job_id
    end
  end
  if not is_list then
    cut_from_set(key, removed, scores)
  elseif #removed > 0 then
    cut_from_end(key, leaving, skip + 1, skip + #ids)
  end
  for rank = skip + 1, skip + #ids do
    if leaving[rank] then
      discard(queue, leaving[rank], layout, queue.base)
    end
  end
  return removed, #ids
end
