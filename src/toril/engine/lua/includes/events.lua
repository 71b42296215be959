local DEFAULT_MAX_EVENTS = '10000'

-- The stream's cap as stored in `meta`; what is no whole number counts as not set: Redis would refuse every call for it.
local function max_events_of(stored)
  local is_number = stored and #stored < 19 and (stored == '0' or string.find(stored, '^[1-9]%d*$'))
  return is_number and stored or DEFAULT_MAX_EVENTS
end

-- The same, writing BullMQ's default when a queue has none yet.
local function ensure_max_events(meta_key, stored)
  if stored then
    return max_events_of(stored)
  end
  redis.call('HSET', meta_key, 'opts.maxLenEvents', DEFAULT_MAX_EVENTS)
  return DEFAULT_MAX_EVENTS
end
