-- Make the next jobs of schedulers: each only if its slot is still the one that the caller has seen, so that any number
-- of processes may do so at once, BullMQ's workers among them. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3...] for each scheduler: id, slot seen (ms), next slot (ms), opts of the next job (JSON without its closing
--            brace), start of its id (JSON text without the closing quote), priority, lifo (1 or 0), name and data
--            (JSON) for a repeatable job of BullMQ 5's older kind, which has none stored, deduplication id ('' = none)
-- Returns: for each 0 made, 1 the slot is another one by now or the scheduler is gone (or no hash any more), 2 the next job is there already:
--          then its slot is noted as the current one.
-- Events: added, then delayed or waiting; duplicated.
-- Cost: O(schedulers x log n).
-- include: scheduling
local queue = queue_of(ARGV[1])
local layout = ARGV[2]
queue.is_adding = true
read_settings(queue, layout)
local FIELDS = 10
local now_ms = server_now_ms()
local codes = {}
for at = 2, #ARGV - FIELDS, FIELDS do
  local scheduler_id, seen, slot = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local scheduler_key = queue.schedulers .. ':' .. scheduler_id
  local current = call('ZSCORE', queue.schedulers, scheduler_id)
  local kind, code = call('TYPE', scheduler_key).ok, 0
  if not current or slot_of(current) ~= seen or kind ~= 'hash' and kind ~= 'none' then
    code = 1
  elseif call('EXISTS', scheduler_key .. ':' .. slot) == 1 then
    code = 2
    change('ZADD', queue.schedulers, slot, scheduler_id)
    emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'duplicated', 'jobId', slot_job_id(scheduler_id, slot))
  else
    local stored = call('HMGET', scheduler_key, 'name', 'data', 'ic')
    local data = stored[2] or '{}'
    if not stored[2] and not stored[3] and ARGV[at + 9] ~= '{}' then
      data = ARGV[at + 9]
      change('HSET', scheduler_key, 'data', data)
    end
    count_iteration(scheduler_key)
    make_slot(queue, scheduler_id, slot, now_ms, {
      name = stored[1] or ARGV[at + 8], data = data, opts = ARGV[at + 4], priority = tonumber(ARGV[at + 6]),
      is_lifo = ARGV[at + 7] == '1', deduplication_id = ARGV[at + 10] ~= '' and ARGV[at + 10] or nil,
    }, ARGV[at + 5])
    local producer_key = scheduler_key .. ':' .. seen
    if layout == '5' and call('EXISTS', producer_key) == 1 then
      change('HSET', producer_key, 'nrjid', slot_job_id(scheduler_id, slot))
    end
  end
  codes[#codes + 1] = code
end
wake(queue)
return codes
