-- include: queue
-- include: batches
-- include: changing
-- Storing new jobs and putting them where they wait. `queue` is as `queue_of` and `read_settings` make it; a job is
--   {id, name, data, opts, timestamp (text), delay (ms), priority, is_lifo}
-- and may have parent_key, parent (JSON), scheduler_id, deduplication_id, waits_for_children.

-- Write the hash of a new job and emit `added`.
local function store_new(queue, job)
  local job_key = queue.base .. job.id
  local added = call('HSET', job_key, 'name', job.name, 'data', job.data, 'opts', job.opts,
    'timestamp', job.timestamp, 'delay', text_of(job.delay), 'priority', text_of(job.priority))
  note_new_hash(job_key, added, 6)
  local links = {}
  for field, value in pairs({parentKey = job.parent_key, parent = job.parent, rjk = job.scheduler_id,
      deid = job.deduplication_id}) do
    links[#links + 1] = field
    links[#links + 1] = value
  end
  if #links > 0 then
    call('HSET', job_key, unpack(links))
  end
  emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
    'event', 'added', 'jobId', job.id, 'name', job.name)
end

-- Put a stored job where it waits, with its event. For a job of the plain list only the event is emitted; the caller
-- pushes the job.
-- Returns `waiting-children`, `delayed`, `prioritized`, or `wait`: push it on `queue.target` (lifo: on the right).
local function place_new(queue, job)
  if job.waits_for_children then
    call('ZADD', queue.waiting_children, job.timestamp, job.id)
    undo_by('ZREM', queue.waiting_children, job.id)
    emit(queue.events, '*', 'event', 'waiting-children', 'jobId', job.id)
    return 'waiting-children'
  end
  if job.delay > 0 then
    queue.has_delayed = true
    place_delayed(queue.delayed, queue.events, job.id, tonumber(job.timestamp) + job.delay)
    return 'delayed'
  end
  queue.has_runnable = true
  emit(queue.events, '*', 'event', 'waiting', 'jobId', job.id)
  if job.priority > 0 then
    place_prioritized(queue.prioritized, queue.pc, job.id, job.priority)
    return 'prioritized'
  end
  return 'wait'
end

-- Store one job and put it where it waits. `wake(queue)` afterwards, once for all.
local function store_job(queue, job)
  store_new(queue, job)
  if place_new(queue, job) == 'wait' then
    place_in_list(job.is_lifo and 'RPUSH' or 'LPUSH', queue.target, job.id)
  end
end
