-- Register a process that works on the queue, or renew that. At its start also give back the jobs of the process before it
-- in the same container, which is dead: known by the pod's uid and the container, never by a name alone. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] worker's name   ARGV[4] uuid of the process   ARGV[5] uid of the pod and name of the container, or '' = not known
-- ARGV[6] how often a job may stall   ARGV[7] lifetime of what is registered (ms)   ARGV[8] 1: the process starts
-- Returns: ids that were given back.
-- Events: waiting (prev active), stalled.
-- Cost: O(workers registered) at a start; O(length of active) at one in a container that has had a process before.
-- include: queue
-- include: time
-- include: recovering
local queue = queue_of(ARGV[1])
-- As the first write: HSET would be refused when Redis is full.
trim_events(queue.events, queue.meta)
local name, process, container, lifetime_ms = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[7])
local workers_key = queue.base .. 'toril:workers'
local now_ms, now = server_now_ms()
local before = read_worker(queue.base, name)

-- The active jobs of the process before: those that its tokens lock, and those without a lock that it has started.
local function jobs_of(former)
  local prefix, found = name .. ':' .. former.process .. ':', {}
  for _, job_id in ipairs(call('LRANGE', queue.active, 0, -1)) do
    local token = try('GET', queue.base .. job_id .. ':lock')
    if token and string.sub(token, 1, #prefix) == prefix then
      found[#found + 1] = job_id
    elseif token == false then
      local stored = try('HMGET', queue.base .. job_id, 'pb', 'processedOn')
      if stored and stored[1] == name and number_of(stored[2]) >= former.since then
        found[#found + 1] = job_id
      end
    end
  end
  return found
end

local function give_back(ids)
  read_settings(queue, ARGV[2])
  local place = {
    base = queue.base, active = queue.active, target = queue.target, events = queue.events, max_events = queue.max_events,
    schedulers = queue.schedulers, max_stalled_count = tonumber(ARGV[6]),
  }
  local recovered = {}
  for _, job_id in ipairs(ids) do
    if recover_job(place, job_id, #ids > 1) then
      change('DEL', queue.base .. job_id .. ':lock')
      call('SREM', queue.stalled, job_id)
      recovered[#recovered + 1] = job_id
    end
  end
  queue.is_maxed = queue.concurrency ~= nil and call('LLEN', queue.active) >= queue.concurrency
  queue.has_runnable = #recovered > 0
  wake(queue)
  return recovered
end

-- Forget the workers that have not been seen for a lifetime.
local function sweep()
  local stored = call('HGETALL', workers_key)
  for index = 1, #stored, 2 do
    local worker = read_worker(queue.base, stored[index])
    if not worker or worker.seen + lifetime_ms < now_ms then
      change('HDEL', workers_key, stored[index])
    end
  end
end

local recovered, is_same = {}, before ~= nil and before.process == process
if ARGV[8] == '1' and not is_same then
  if before and container ~= '' and before.container == container then
    local ids = jobs_of(before)
    recovered = #ids > 0 and give_back(ids) or recovered
  end
  sweep()
end
local since = is_same and text_of(before.since) or now
change('HSET', workers_key, name, table.concat({since, now, process, container}, ' '))
change('PEXPIRE', workers_key, ARGV[7])
return recovered
