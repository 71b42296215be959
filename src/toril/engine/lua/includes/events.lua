-- include: changing
-- The cap of a queue's event stream.
local DEFAULT_MAX_EVENTS = '10000'

-- The stream's cap as stored in `meta`; what is no whole number counts as not set: Redis would refuse every call for it.
local function max_events_of(stored)
  local is_number = stored and #stored < 19 and (stored == '0' or string.find(stored, '^[1-9]%d*$'))
  return is_number and stored or DEFAULT_MAX_EVENTS
end

-- Cut the stream to its cap. As a script's first write: it goes on when Redis is full, see memory.lua.
local function trim_events(events_key, meta_key)
  local max_events = max_events_of(call('HGET', meta_key, 'opts.maxLenEvents'))
  call('XTRIM', events_key, 'MAXLEN', '~', max_events)
end

-- The cap, writing BullMQ's default when a queue has none yet.
local function ensure_max_events(meta_key, stored)
  if stored then
    return max_events_of(stored)
  end
  call('HSET', meta_key, 'opts.maxLenEvents', DEFAULT_MAX_EVENTS)
  undo_by('HDEL', meta_key, 'opts.maxLenEvents')
  return DEFAULT_MAX_EVENTS
end
