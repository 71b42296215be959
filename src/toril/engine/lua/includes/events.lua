local DEFAULT_MAX_EVENTS = '10000'

-- The stream's cap from `meta`, writing BullMQ's default when a queue has none yet.
local function ensure_max_events(meta_key, stored)
  if stored then
    return stored
  end
  redis.call('HSET', meta_key, 'opts.maxLenEvents', DEFAULT_MAX_EVENTS)
  return DEFAULT_MAX_EVENTS
end
