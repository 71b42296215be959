-- Store a job scheduler and make the job of its slot, in place of the one that was armed before and has not been taken.
-- Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] slot seen (ms, '' = there was no such scheduler)   ARGV[5] slot (ms)
-- ARGV[6] 1: the interval is the same, so an armed job's slot is kept
-- ARGV[7] opts of the job (JSON without its closing brace)   ARGV[8] start of its id (JSON text without closing quote)
-- ARGV[9] prevMillis goes with the opts (1 or 0)   ARGV[10] priority   ARGV[11] lifo (1 or 0)
-- ARGV[12] name   ARGV[13] data (JSON)   ARGV[14] opts of the template (JSON, '' = none)
-- ARGV[15] offset as given (ms, '' = none)   ARGV[16] offset for a scheduler that has no armed job (ms)
-- ARGV[17...] further fields and values of the scheduler (at least one pair)
-- Returns: {0, slot}; {1} the scheduler is not as seen: look again; {2, slot} that slot has a job already.
-- Events: added, then delayed, waiting.
-- Cost: O(log n); O(length of wait) when the armed job waits there.
-- include: scheduling
-- include: removing
local queue = queue_of(ARGV[1])
queue.is_adding = true
read_settings(queue, ARGV[2])
local scheduler_id, seen, slot = ARGV[3], ARGV[4], ARGV[5]
local scheduler_key = queue.schedulers .. ':' .. scheduler_id
local current = call('ZSCORE', queue.schedulers, scheduler_id)
current = current and slot_of(current) or ''
if current ~= seen then
  return {1}
end
local armed_id = slot_job_id(scheduler_id, current)

-- Where the armed job is, if no worker holds it; wherever it was put while the queue was paused.
local function place_of_armed()
  if current == '' or call('EXISTS', queue.base .. armed_id) == 0 then
    return nil
  end
  for _, key in ipairs({queue.delayed, queue.prioritized}) do
    if call('ZSCORE', key, armed_id) then
      return key
    end
  end
  for _, key in ipairs({queue.wait, queue.paused}) do
    if call('LPOS', key, armed_id) then
      return key
    end
  end
  return nil
end

local stored = call('HMGET', scheduler_key, 'ic', 'offset')
local place = place_of_armed()
if place and ARGV[6] == '1' then
  slot = current
end
if not (place and slot == current) and call('EXISTS', scheduler_key .. ':' .. slot) == 1 then
  return {2, slot}
end
if place then
  if place == queue.delayed or place == queue.prioritized then
    change('ZREM', place, armed_id)
  else
    change('LREM', place, 0, armed_id)
  end
  -- Now: the new job may have the same id.
  local keys = {}
  add_job_keys(keys, queue.base .. armed_id)
  for _, key in ipairs(keys) do
    change('DEL', key)
  end
end

local offset = ARGV[15] ~= '' and ARGV[15] or (place and stored[2])
if not place then
  offset = ARGV[16]
end
change('DEL', scheduler_key)
change('HSET', scheduler_key, 'name', ARGV[12], 'ic', stored[1] or '1', unpack(ARGV, 17))
if offset then
  change('HSET', scheduler_key, 'offset', offset)
end
if ARGV[14] ~= '' then
  change('HSET', scheduler_key, 'opts', ARGV[14])
end
if ARGV[13] ~= '{}' then
  change('HSET', scheduler_key, 'data', ARGV[13])
end
local opts = ARGV[7]
if ARGV[9] == '1' then
  opts = opts .. ',"prevMillis":' .. slot
end
make_slot(queue, scheduler_id, slot, server_now_ms(), {
  name = ARGV[12], data = ARGV[13], opts = opts, priority = tonumber(ARGV[10]), is_lifo = ARGV[11] == '1',
}, ARGV[8])
wake(queue)
return {0, slot}
