-- include: slots
-- include: parents
-- include: deduplicating
-- Removing jobs by hand, with what ties them to others.

-- What decides about a job's removal; `is_foreign` when something else is in its place.
local function read_ties(queue, job_id)
  local job = {id = job_id, key = queue.base .. job_id}
  local fields = try('HMGET', job.key, 'parentKey', 'parent', 'deid', 'rjk')
  if not fields then
    job.is_foreign = true
    return job
  end
  job.parent = parent_of(fields[1], fields[2])
  job.deduplication_id, job.scheduler_id = fields[3], fields[4]
  return job
end

-- Whether the job is the iteration that its scheduler has ready: it goes with the scheduler alone.
local function is_armed(queue, job)
  local slot = job.scheduler_id and call('ZSCORE', queue.schedulers, job.scheduler_id)
  return slot and job.id == slot_job_id(job.scheduler_id, slot) or false
end

-- Delete a job that has been taken out of its place. `hard_base`: see `detach_child`.
local function discard(queue, job, layout, hard_base)
  if job.is_foreign then
    return
  end
  if job.parent then
    update_parent_guarded(queue.base, detach_child, job.parent, job.key, layout, hard_base)
  end
  if job.deduplication_id then
    forget_deduplication(queue, job.id, job.deduplication_id)
  end
  add_job_keys(doomed, job.key)
end
