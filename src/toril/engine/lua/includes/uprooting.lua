-- include: discarding
-- Removing one job with its children, which may be in other queues.

-- Take a job out of wherever it is; the answer is BullMQ's word for that.
local function take_out(queue, job_id)
  for _, place in ipairs({'completed', 'waiting-children', 'delayed', 'failed', 'prioritized'}) do
    if redis.call('ZREM', queue.base .. place, job_id) == 1 then
      return place
    end
  end
  for _, place in ipairs({'wait', 'paused', 'active'}) do
    if redis.call('LREM', queue.base .. place, 1, job_id) == 1 then
      return place
    end
  end
  return 'unknown'
end

-- Base and id of a job's key. Ids may hold colons, so the parent's queue, which most children share, is tried first.
local function split_key(job_key, likely_base)
  if string.sub(job_key, 1, #likely_base) == likely_base then
    return likely_base, string.sub(job_key, #likely_base + 1)
  end
  return string.match(job_key, '^(.*:)([^:]*)$')
end

local function pending_children(job_key)
  return redis.call('SMEMBERS', job_key .. ':dependencies')
end

-- Whether one of these jobs is worked.
local function any_locked(job_keys)
  local locks = {}
  for index, job_key in ipairs(job_keys) do
    locks[index] = job_key .. ':lock'
  end
  return count_existing(locks) > 0
end

-- Whether somebody works the job, or one of those below it that have not ended, level by level.
local function is_locked(job_key, with_children)
  local level, seen = {job_key}, {[job_key] = true}
  while #level > 0 do
    if any_locked(level) then
      return true
    end
    local below = {}
    for _, parent_key in ipairs(with_children and level or {}) do
      for _, child_key in ipairs(pending_children(parent_key)) do
        if not seen[child_key] then
          seen[child_key] = true
          below[#below + 1] = child_key
        end
      end
    end
    level = below
  end
  return false
end

local uproot

-- Remove the children of a job; with `options.only_pending` those that have not ended and that nobody works.
-- Returns false when the budget ended first.
local function uproot_children(base, job_id, options)
  local job_key = base .. job_id
  local sources = {{pending_children, 'SREM', ':dependencies'}}
  if not options.only_pending then
    table.insert(sources, 1, {function() return redis.call('HKEYS', job_key .. ':processed') end, 'HDEL', ':processed'})
    table.insert(sources, 2, {function() return redis.call('HKEYS', job_key .. ':failed') end, 'HDEL', ':failed'})
    table.insert(sources, 3, {
      function() return redis.call('ZRANGE', job_key .. ':unsuccessful', 0, -1) end, 'ZREM', ':unsuccessful'})
  end
  for _, source in ipairs(sources) do
    for _, child_key in ipairs(source[1](job_key)) do
      local child_base, child_id = split_key(child_key, base)
      -- What is no key of a job stays, and goes with the parent's own keys.
      local is_kept = not child_base or options.only_pending and (is_locked(child_key)
        or redis.call('ZSCORE', child_base .. 'failed', child_id))
      if not is_kept then
        if not uproot(child_base, child_id, {key = job_key, base = base, id = job_id}, options) then
          return false
        end
        redis.call(source[2], job_key .. source[3], child_key)
      end
    end
  end
  return true
end

-- Remove a job, its children first. `parent`: whose child it is removed as; nil = its own.
-- options: layout, with_children, only_pending, budget (about how many more jobs this call may remove), begun ({}).
-- Returns false when the budget ended first; what was removed stays removed, and the same call goes on with the rest.
uproot = function(base, job_id, parent, options)
  local queue = queue_of(base)
  local job = read_ties(queue, job_id)
  if job.is_foreign or options.begun[job.key] then
    -- Jobs that are children of each other: it goes when those do that are being removed.
    return true
  end
  if options.budget <= 0 then
    return false
  end
  options.begun[job.key] = true
  local was_pending = parent and redis.call('SISMEMBER', parent.key .. ':dependencies', job.key) == 1
  job.parent = parent or job.parent
  if job.parent then
    detach_child(job.parent, job.key, options.layout)
    job.parent = nil
  end
  if options.with_children and not uproot_children(base, job_id, options) then
    if was_pending then
      -- By this the next call finds it again.
      redis.call('SADD', parent.key .. ':dependencies', job.key)
    end
    return false
  end
  options.budget = options.budget - 1
  local place = take_out(queue, job_id)
  if discard(queue, job, options.layout) then
    read_settings(queue, options.layout)
    redis.call('XADD', queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'removed', 'jobId', job_id, 'prev', place)
  end
  return true
end
