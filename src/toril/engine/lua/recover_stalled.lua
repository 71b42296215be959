-- Give jobs back whose worker is gone: active at the last check and at this one, and without a lock. Each has stalled once
-- more; but when its worker was one of ours and had several jobs, then none is charged: see `recover_job`. Then tell
-- parents what keys of another type in their queues have kept from them. Time is Redis's.
--
-- KEYS[1] stalled (set)   KEYS[2] wait (list)   KEYS[3] paused (list)   KEYS[4] active (list)
-- KEYS[5] stalled-check (string)   KEYS[6] meta (hash)   KEYS[7] marker (zset)   KEYS[8] events (stream)
-- KEYS[9] repeat (zset)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] how often a job may stall   ARGV[4] length of the interval (ms): one check each, whoever makes it
-- Returns: ids that were given back; empty also when another check was made within the interval.
-- Events: waiting (prev active), stalled; of a parent in its own queue waiting or delayed.
-- Cost: O(length of active).
-- include: time
-- include: placing
-- include: batches
-- include: waking
-- include: limiting
-- include: parents
-- include: suspecting
local stalled_key, wait_key, paused_key, active_key, check_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local meta_key, marker_key, events_key, repeat_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local base, layout = ARGV[1], ARGV[2]

-- Let `stalled`, which holds `watched`, hold what is active now.
local function watch_active(watched)
  local is_watched, is_active, new, gone = {}, {}, {}, {}
  for _, job_id in ipairs(watched) do
    is_watched[job_id] = true
  end
  for _, job_id in ipairs(call('LRANGE', active_key, 0, -1)) do
    is_active[job_id] = true
    if not is_watched[job_id] then
      new[#new + 1] = job_id
    end
  end
  for _, job_id in ipairs(watched) do
    if not is_active[job_id] then
      gone[#gone + 1] = job_id
    end
  end
  call_in_batches('SADD', stalled_key, new, 'SREM', new)
  call_in_batches('SREM', stalled_key, gone, 'SADD', gone)
end

-- As the first write: SET would be refused when Redis is full.
trim_events(events_key, meta_key)
if not call('SET', check_key, text_of(server_now_ms()), 'NX', 'PX', ARGV[4]) then
  return {}
end
undo_by('DEL', check_key)
local meta = call('HMGET', meta_key, 'paused', 'concurrency', 'opts.maxLenEvents')
local is_paused = meta[1] and true or false
local target_key = waiting_list(wait_key, paused_key, meta_key, layout, is_paused)
local max_events = ensure_max_events(meta_key, meta[3])
local recovered, stalled = {}, {}
local watched = call('SMEMBERS', stalled_key)
for _, job_id in ipairs(watched) do
  if call('EXISTS', base .. job_id .. ':lock') == 0 then
    stalled[#stalled + 1] = job_id
  end
end
if #stalled > 0 then
  local place = {
    base = base, active = active_key, target = target_key, events = events_key, max_events = max_events,
    schedulers = repeat_key, max_stalled_count = tonumber(ARGV[3]),
  }
  local suspects = find_suspects(base, active_key, stalled)
  for _, job_id in ipairs(stalled) do
    if recover_job(place, job_id, suspects[job_id]) then
      recovered[#recovered + 1] = job_id
    end
  end
end
watch_active(watched)
local concurrency = limit_of(meta[2])
local is_maxed = concurrency and call('LLEN', active_key) >= concurrency
if #recovered > 0 and not is_paused and not is_maxed then
  wake_now(marker_key)
end
pay_parents(base, layout, server_now_ms())
return recovered
