-- What every way of ending jobs needs.

-- Take jobs out of `active` when they are the oldest there: then it is one go. Returns them in their order there, in which
-- RPUSH puts them back; nil when they are not the oldest.
local function remove_oldest(active_key, ids)
  local count, wanted = #ids, {}
  for index = 1, count do
    wanted[ids[index]] = true
  end
  local oldest = call('LRANGE', active_key, -count, '-1')
  for index = 1, count do
    local job_id = oldest[index]
    if not job_id or not wanted[job_id] then
      return nil
    end
    wanted[job_id] = nil
  end
  call('LTRIM', active_key, '0', -count - 1)
  return oldest
end

-- Whether a job's end leaves nothing to do, as far as BullMQ looks. `taken` is as `finish_and_take` returns it.
local function is_drained(base, taken)
  return #taken == 3 and taken[2] == 0 and call('LLEN', base .. 'wait') == 0 and call('LLEN', base .. 'active') == 0
    and call('ZCARD', base .. 'prioritized') == 0
end
