-- include: discarding
-- Removing many jobs of one place, a window a call.

local LISTS = {wait = true, paused = true, active = true}
-- Which fields tell how old a job is, the first that it has; finished jobs and parents are old by their score.
local LIST_AGES = {'finishedOn', 'processedOn', 'timestamp'}
local AGES = {delayed = {'processedOn', 'timestamp'}, prioritized = {'timestamp'}}
-- Stands for a removed entry of a list until it is cleared of all of them.
local REMOVED = ''

local function is_young(job_key, fields, cutoff_ms)
  for _, text in ipairs(redis.call('HMGET', job_key, unpack(fields))) do
    if text then
      return number_of(text) > cutoff_ms
    end
  end
  return false
end

-- The window's ids, those first that have been there longest.
local function read_window(queue, place, cutoff_ms, skip, count)
  local key = queue.base .. place
  if LISTS[place] then
    local found = redis.call('LRANGE', key, -(skip + count), -(skip + 1))
    local ids = {}
    for index = #found, 1, -1 do
      ids[#ids + 1] = found[index]
    end
    return ids
  end
  if cutoff_ms and not AGES[place] then
    return redis.call('ZRANGEBYSCORE', key, '-inf', text_of(cutoff_ms), 'LIMIT', skip, count)
  end
  return redis.call('ZRANGE', key, skip, skip + count - 1)
end

-- Take entries out of the window of ranks `first` to `last` from a list's end; `doomed`: jobs by rank.
local function cut_from_end(key, doomed, first, last)
  if first <= last - first + 1 then
    -- Not far in: cutting the end off and putting back what stays is much cheaper than changing entries one by one.
    local tail, kept = redis.call('LRANGE', key, -last, -1), {}
    for index, job_id in ipairs(tail) do
      if not doomed[#tail - index + 1] then
        kept[#kept + 1] = job_id
      end
    end
    redis.call('LTRIM', key, 0, -last - 1)
    call_in_batches('RPUSH', key, kept)
    return
  end
  local count = 0
  for rank in pairs(doomed) do
    redis.call('LSET', key, -rank, REMOVED)
    count = count + 1
  end
  redis.call('LREM', key, -count, REMOVED)
end

-- Remove jobs of `place` (a key's name without base), looking at `count` of them behind the first `skip`. Kept are armed
-- iterations of schedulers, running jobs, and with a cutoff (ms) what is younger. Parents: see `detach_child`, hard.
-- Returns the removed ids and how many were looked at.
local function sweep(queue, place, cutoff_ms, skip, count, layout)
  local key = queue.base .. place
  local is_list = LISTS[place]
  local ages = is_list and LIST_AGES or AGES[place]
  local ids = read_window(queue, place, cutoff_ms, skip, count)
  local doomed, removed = {}, {}
  for index, job_id in ipairs(ids) do
    local job = read_ties(queue, job_id)
    local is_kept = not job.is_foreign and (
      ages and is_armed(queue, job)
      or place == 'active' and redis.call('EXISTS', job.key .. ':lock') == 1
      or cutoff_ms and ages and is_young(job.key, ages, cutoff_ms))
    if not is_kept then
      doomed[skip + index] = job
      removed[#removed + 1] = job_id
    end
  end
  if not is_list then
    call_in_batches('ZREM', key, removed)
  elseif #removed > 0 then
    cut_from_end(key, doomed, skip + 1, skip + #ids)
  end
  for rank = skip + 1, skip + #ids do
    if doomed[rank] then
      discard(queue, doomed[rank], layout, queue.base)
    end
  end
  return removed, #ids
end
