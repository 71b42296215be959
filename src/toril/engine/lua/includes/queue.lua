-- include: placing
-- include: waking
-- include: limiting
-- The keys of a queue, and the settings that decide where a runnable job goes.

-- Key names by the queue's base (`bull:email:`).
local function queue_of(base)
  return {
    base = base, wait = base .. 'wait', paused = base .. 'paused', active = base .. 'active',
    prioritized = base .. 'prioritized', pc = base .. 'pc', delayed = base .. 'delayed', marker = base .. 'marker',
    meta = base .. 'meta', id = base .. 'id', events = base .. 'events', limiter = base .. 'limiter',
    stalled = base .. 'stalled', completed = base .. 'completed', failed = base .. 'failed',
    waiting_children = base .. 'waiting-children', schedulers = base .. 'repeat',
  }
end

-- Read what the queue's `meta` says, once a call: is_paused, is_maxed, max_events, layout,
-- target (the list of runnable jobs).
local function read_settings(queue, layout)
  local meta = redis.call('HMGET', queue.meta, 'paused', 'concurrency', 'opts.maxLenEvents')
  local concurrency = limit_of(meta[2])
  queue.layout = layout
  queue.is_paused = meta[1] and true or false
  queue.is_maxed = concurrency ~= nil and redis.call('LLEN', queue.active) >= concurrency
  queue.max_events = ensure_max_events(queue.meta, meta[3])
  queue.target = waiting_list(queue.wait, queue.paused, queue.meta, layout, queue.is_paused)
end

-- Wake workers for what this call has made runnable or delayed: see `has_runnable` and `has_delayed`.
local function wake(queue)
  if queue.has_runnable and not queue.is_paused and not queue.is_maxed then
    wake_now(queue.marker)
  end
  if queue.has_delayed then
    wake_at_next_due(queue.marker, queue.delayed)
  end
end
