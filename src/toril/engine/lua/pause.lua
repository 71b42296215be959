-- Stop workers from taking jobs; adding goes on.
--
-- KEYS[1] wait (list)   KEYS[2] paused (list)   KEYS[3] meta (hash)   KEYS[4] marker (zset)   KEYS[5] events (stream)
-- ARGV[1] layout of paused queues: 5 moves jobs to `paused`, 6 leaves them in `wait` unless a BullMQ 5 peer shows itself
-- Returns: 1 when this call paused the queue, 0 when it was paused before.
-- Events: paused.
-- Cost: O(1); moving them O(waiting). Lists are appended to each other, never renamed over one another.
-- include: pausing
-- include: placing
local wait_key, paused_key, meta_key, marker_key, events_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
trim_events(events_key, meta_key)
local was_paused = call('HEXISTS', meta_key, 'paused')
if is_kept_apart(paused_key, meta_key, ARGV[1]) then
  join_lists(wait_key, paused_key)
end
change('HSET', meta_key, 'paused', 1)
change('DEL', marker_key)
if was_paused == 0 then
  emit(events_key, '*', 'event', 'paused')
end
return 1 - was_paused
