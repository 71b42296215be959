-- Set or remove limits of the queue as a whole, and wake workers that the old ones kept idle.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon    ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3...] field of `meta` (concurrency, max or duration) and its new value, '' = remove it
-- Returns: 1.
-- Events: none.
-- Cost: O(1).
-- include: queue
local queue = queue_of(ARGV[1])
-- As the first write: HSET would be refused when Redis is full.
trim_events(queue.events, queue.meta)
for at = 3, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    change('HDEL', queue.meta, ARGV[at])
  else
    change('HSET', queue.meta, ARGV[at], ARGV[at + 1])
  end
end
read_settings(queue, ARGV[2])
queue.has_runnable = call('LLEN', queue.target) > 0 or call('ZCARD', queue.prioritized) > 0
wake(queue)
return 1
