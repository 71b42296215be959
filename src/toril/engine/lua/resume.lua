-- Let workers take jobs again. Whatever BullMQ 5 parked in `paused` joins `wait`, behind the first and before the last.
--
-- KEYS[1] wait (list)   KEYS[2] paused (list)   KEYS[3] meta (hash)   KEYS[4] marker (zset)   KEYS[5] events (stream)
-- KEYS[6] prioritized (zset)   KEYS[7] delayed (zset)
-- Returns: 1 when this call resumed the queue, 0 when it was not paused.
-- Events: resumed.
-- Cost: O(length of paused).
-- include: pausing
-- include: waking
-- include: events
local wait_key, paused_key, meta_key, marker_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local prioritized_key, delayed_key = KEYS[6], KEYS[7]
trim_events(events_key, meta_key)
local was_paused = change('HDEL', meta_key, 'paused')
join_lists(paused_key, wait_key)
if call('LLEN', wait_key) > 0 or call('ZCARD', prioritized_key) > 0 then
  wake_now(marker_key)
else
  wake_at_next_due(marker_key, delayed_key)
end
if was_paused == 1 then
  emit(events_key, '*', 'event', 'resumed')
end
return was_paused
