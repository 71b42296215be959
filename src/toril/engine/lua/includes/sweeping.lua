-- include: discarding
-- Removing many jobs of one place, a window a call.

local LISTS = {wait = true, paused = true, active = true}
-- Which fields tell how old a job is, the first that it has; finished jobs and parents are old by their score.
local LIST_AGES = {'finishedOn', 'processedOn', 'timestamp'}
local AGES = {delayed = {'processedOn', 'timestamp'}, prioritized = {'timestamp'}}
-- Stands for a removed entry until the list is cleared of all of them.
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

-- Remove jobs of `place` (a key's name without base), looking at `count` of them behind the first `skip`. Kept are armed
-- iterations of schedulers, running jobs, and with a cutoff (ms) what is younger. Parents: see `detach_child`, hard.
-- Returns the removed ids and how many were looked at.
local function sweep(queue, place, cutoff_ms, skip, count, layout)
  local key = queue.base .. place
  local is_list = LISTS[place]
  local ages = is_list and LIST_AGES or AGES[place]
  local ids, doomed, removed = read_window(queue, place, cutoff_ms, skip, count), {}, {}
  for index, job_id in ipairs(ids) do
    local job = read_ties(queue, job_id)
    local is_kept = not job.is_foreign and (
      ages and is_armed(queue, job)
      or place == 'active' and redis.call('EXISTS', job.key .. ':lock') == 1
      or cutoff_ms and ages and is_young(job.key, ages, cutoff_ms))
    if not is_kept then
      doomed[#doomed + 1] = job
      removed[#removed + 1] = job_id
      if is_list then
        redis.call('LSET', key, -(skip + index), REMOVED)
      end
    end
  end
  if not is_list then
    call_in_batches('ZREM', key, removed)
  elseif #removed > 0 then
    redis.call('LREM', key, -#removed, REMOVED)
  end
  for _, job in ipairs(doomed) do
    discard(queue, job, layout, queue.base)
  end
  return removed, #ids
end
