-- include: placing
-- include: waking
-- include: limiting
-- include: memory
-- The keys of a queue, and the settings that decide where a runnable job goes.

-- The part of a key's name that follows the base, by our word for the key.
local KEY_NAMES = {
  wait = 'wait', paused = 'paused', active = 'active', prioritized = 'prioritized', pc = 'pc', delayed = 'delayed',
  marker = 'marker', meta = 'meta', id = 'id', events = 'events', limiter = 'limiter', stalled = 'stalled',
  completed = 'completed', failed = 'failed', waiting_children = 'waiting-children', schedulers = 'repeat',
}
local QUEUE = {
  __index = function(queue, word)
    local name = KEY_NAMES[word]
    if name then
      local key = queue.base .. name
      queue[word] = key
      return key
    end
  end,
}

-- Key names by the queue's base (`bull:email:`), each made when it is used: most scripts need few of them.
local function queue_of(base)
  return setmetatable({base = base}, QUEUE)
end

-- Read what the queue's `meta` says, once a call: is_paused, concurrency, is_maxed, max_events, layout, max and duration
-- (of the rate limit; nil = none), target (the list of runnable jobs).
local function read_settings(queue, layout)
  local meta = call('HMGET', queue.meta, 'paused', 'concurrency', 'opts.maxLenEvents', 'max', 'duration')
  queue.layout = layout
  queue.is_paused = meta[1] and true or false
  queue.concurrency = limit_of(meta[2])
  queue.is_maxed = queue.concurrency ~= nil and call('LLEN', queue.active) >= queue.concurrency
  queue.max, queue.duration = limit_of(meta[4]), limit_of(meta[5])
  queue.target = waiting_list(queue.wait, queue.paused, queue.meta, layout, queue.is_paused)
  if queue.is_adding then
    refuse_when_full(queue.marker)
    -- Raises for keys of another type, also where this call could do without them.
    call('LLEN', queue.target)
    if queue.is_adding ~= 'plain' then
      call('ZCARD', queue.delayed)
      call('ZCARD', queue.prioritized)
      call('STRLEN', queue.pc)
    end
    call('XTRIM', queue.events, 'MAXLEN', '~', max_events_of(meta[3]))
  elseif not meta[3] then
    -- Before `ensure_max_events` writes to `meta`, which would be refused as the first write when Redis is full.
    call('XTRIM', queue.events, 'MAXLEN', '~', DEFAULT_MAX_EVENTS)
  end
  queue.max_events = ensure_max_events(queue.meta, meta[3])
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
