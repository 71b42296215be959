-- Remove a queue: pause it, remove its jobs in rounds, and in the last one the queue's own keys.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] 1: also when jobs are running   ARGV[4] how many jobs to remove at most
-- ARGV[5] 1: the last round, if there are no jobs
-- Returns: 1 there is more (call again), 0 no jobs are left, -2 jobs are running (nothing was done).
-- Events: paused, in the first round. The stream goes with the last.
-- Cost: O(removed × log n).
-- include: discarding
local queue = queue_of(ARGV[1])
local layout, is_forced, budget, is_last = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), ARGV[5] == '1'
local PLACES = {'active', 'delayed', 'completed', 'wait', 'paused', 'prioritized', 'failed', 'waiting-children'}
local OWN = {
  'events', 'stalled', 'stalled-check', 'id', 'pc', 'marker', 'meta', 'limiter', 'repeat', 'delay', 'priority',
  'metrics:completed', 'metrics:completed:data', 'metrics:failed', 'metrics:failed:data',
}

if call('LLEN', queue.active) > 0 and not is_forced then
  return -2
end
trim_events(queue.events, queue.meta)
if change('HSETNX', queue.meta, 'paused', '1') == 1 then
  emit(queue.events, '*', 'event', 'paused')
end
change('DEL', queue.marker)

-- Take up to `budget` ids out of a place.
local function pop(place)
  local key = queue.base .. place
  if place == 'active' or place == 'wait' or place == 'paused' then
    local ids, back = call('RPOP', key, budget) or {}, {}
    for index = #ids, 1, -1 do
      back[#back + 1] = ids[index]
    end
    if #ids > 0 then
      undo[#undo + 1] = {'RPUSH', key, back}
    end
    return ids
  end
  local found, ids, scores = call('ZRANGE', key, 0, budget - 1, 'WITHSCORES'), {}, {}
  for index = 1, #found, 2 do
    ids[#ids + 1] = found[index]
    scores[index], scores[index + 1] = found[index + 1], found[index]
  end
  call_in_batches('ZREM', key, ids, 'ZADD', scores)
  return ids
end

for _, place in ipairs(PLACES) do
  local ids = pop(place)
  for _, job_id in ipairs(ids) do
    discard(queue, read_ties(queue, job_id), layout, queue.base)
    doomed[#doomed + 1] = queue.base .. job_id .. ':lock'
  end
  budget = budget - #ids
  if budget <= 0 then
    return 1
  end
end
if is_last then
  for _, name in ipairs(OWN) do
    doomed[#doomed + 1] = queue.base .. name
  end
end
return 0
