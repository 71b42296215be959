-- include: numbers
-- include: changing
-- include: placing
-- Giving jobs back whose worker is gone, and which of them are charged for that. A place is
--   {base, active, target (where runnable jobs wait), events, max_events, schedulers, stalled, max_stalled_count}

-- Charge a job with the end of its worker: it has stalled once more. One that stalls too often fails when it is taken next.
local function charge(place, job_key)
  -- Not by HINCRBY: a count that is no number would end the check for all jobs.
  local stalled_count = number_of(call('HGET', job_key, 'stc')) + 1
  change('HSET', job_key, 'stc', text_of(stalled_count))
  if stalled_count > place.max_stalled_count then
    local scheduler_id = call('HGET', job_key, 'rjk')
    -- A scheduler whose set has another type counts as existing.
    if not (scheduler_id and try('ZSCORE', place.schedulers, scheduler_id) ~= false) then
      change('HSET', job_key, 'defa', 'job stalled more than allowable limit')
    end
  end
end

-- Move a job of a vanished worker from `active` to the front of what waits. `is_suspect`: it was one of several jobs of its
-- worker, of which any may have ended that. Then it is not charged: it runs alone in its next worker, so that it is known
-- afterwards. Returns whether it was in `active`.
local function recover_job(place, job_id, is_suspect)
  local job_key = place.base .. job_id
  if change('LREM', place.active, 1, job_id) == 0 or call('TYPE', job_key).ok ~= 'hash' then
    return false
  end
  if is_suspect then
    change('HSET', job_key, 'torilSuspect', '1')
  else
    charge(place, job_key)
  end
  place_in_list('RPUSH', place.target, job_id)
  emit(place.events, 'MAXLEN', '~', place.max_events, '*',
    'event', 'waiting', 'jobId', job_id, 'prev', 'active')
  emit(place.events, '*', 'event', 'stalled', 'jobId', job_id)
  return true
end

-- What `toril:workers` says of a worker of ours: {since (ms), seen (ms), process, container ('' = not known)}; nil = nothing.
local function read_worker(base, name)
  local stored = name and try('HGET', base .. 'toril:workers', name)
  local since, seen, process, container = string.match(stored or '', '^(%d+) (%d+) (%S+) (.*)$')
  return since and {since = tonumber(since), seen = tonumber(seen), process = process, container = container} or nil
end
