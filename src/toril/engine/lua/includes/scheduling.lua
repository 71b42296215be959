-- include: slots
-- include: storing
-- include: time
-- Jobs that schedulers make.

-- Make the job of a slot and note the slot as the current one. `job` has name, data, priority, is_lifo, and opts as
-- JSON without its closing brace; `id_json` is the start of the job's id as JSON text.
local function make_slot(queue, scheduler_id, slot, now_ms, job, id_json)
  local delay = math.max(tonumber(slot) - now_ms, 0)
  job.id = slot_job_id(scheduler_id, slot)
  job.scheduler_id = scheduler_id
  job.timestamp, job.delay = text_of(now_ms), delay
  job.opts = job.opts .. ',"jobId":' .. id_json .. slot .. '","delay":' .. text_of(delay)
    .. ',"timestamp":' .. text_of(now_ms) .. '}'
  change('ZADD', queue.schedulers, slot, scheduler_id)
  call('INCR', queue.id)
  note_count(queue.id, 1)
  store_job(queue, job)
end

local function count_iteration(scheduler_key)
  local count = number_of(call('HGET', scheduler_key, 'ic')) + 1
  change('HSET', scheduler_key, 'ic', text_of(count))
end
