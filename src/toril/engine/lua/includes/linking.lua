-- include: storing
-- include: deduplicating
-- Adding jobs that are tied to others.

-- Add a job with links: {parentKey, parent (JSON text), waitsForChildren, deduplication}. Returns the id that the caller is told.
local function add_linked(queue, job, links)
  job.parent_key, job.parent, job.waits_for_children = links.parentKey, links.parent, links.waitsForChildren
  if job.has_own_id and redis.call('EXISTS', queue.base .. job.id) == 1 then
    redis.call('XADD', queue.events, 'MAXLEN', '~', queue.max_events, '*', 'event', 'duplicated', 'jobId', job.id)
    return job.id
  end
  local winner = links.deduplication and deduplicate(queue, job, links.deduplication)
  if winner then
    return winner
  end
  store_job(queue, job)
  return job.id
end
