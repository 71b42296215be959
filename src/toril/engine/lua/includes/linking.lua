-- include: storing
-- include: deduplicating
-- include: parents
-- Adding jobs that are tied to others.

-- A job with this id is there already. Its new parent, if any, waits for it too, or has its value when it has completed.
-- Returns the id, or -7 when it belongs to another parent that lives.
local function add_duplicate(queue, job, parent, later)
  local job_key = queue.base .. job.id
  if parent then
    local held_by = call('HGET', job_key, 'parentKey')
    if held_by and held_by ~= parent.key and call('EXISTS', held_by) == 1 then
      return -7
    end
    if call('ZSCORE', queue.completed, job.id) then
      change('HSET', parent.key .. ':processed', job_key, call('HGET', job_key, 'returnvalue') or 'null')
      if not later then
        release_if_free(parent, queue.layout, tonumber(job.timestamp))
      end
    else
      change('SADD', parent.key .. ':dependencies', job_key)
    end
    change('HSET', job_key, 'parentKey', job.parent_key, 'parent', job.parent)
  end
  emit(queue.events, 'MAXLEN', '~', queue.max_events, '*', 'event', 'duplicated', 'jobId', job.id)
  return job.id
end

-- Add a job with links: {parentKey, parent (JSON text), waitsForChildren, deduplication}.
--   later: a table that gets the parent, for `release_if_free` when its other children are there too; nil = at once
-- Returns the id for the caller, or -5: there is no such parent, -7: the job belongs to another one.
local function add_linked(queue, job, links, later)
  job.parent_key, job.parent, job.waits_for_children = links.parentKey, links.parent, links.waitsForChildren
  local parent = parent_of(links.parentKey, links.parent)
  if parent then
    if call('EXISTS', parent.key) == 0 then
      return -5
    end
    if later then
      later[#later + 1] = parent
    end
  end
  if job.has_own_id and call('EXISTS', queue.base .. job.id) == 1 then
    return add_duplicate(queue, job, parent, later)
  end
  local winner = links.deduplication and deduplicate(queue, job, links.deduplication)
  if winner then
    return winner
  end
  store_job(queue, job)
  if parent then
    call('SADD', parent.key .. ':dependencies', queue.base .. job.id)
    undo_by('SREM', parent.key .. ':dependencies', queue.base .. job.id)
  end
  return job.id
end
