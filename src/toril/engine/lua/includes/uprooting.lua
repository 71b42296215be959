-- include: discarding
-- Removing one job with its children, which may be in other queues.
local SCAN_PAGE = 100

-- Take a job out of wherever it is; the answer is BullMQ's word for that.
local function take_out(queue, job_id)
  for _, place in ipairs({'completed', 'waiting-children', 'delayed', 'failed', 'prioritized'}) do
    if change('ZREM', queue.base .. place, job_id) == 1 then
      return place
    end
  end
  for _, place in ipairs({'wait', 'paused', 'active'}) do
    if change('LREM', queue.base .. place, 1, job_id) == 1 then
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
  return call('SMEMBERS', job_key .. ':dependencies')
end

-- Some of a job's pending children, from `cursor` on ('0' = the first), and where to go on. A few are read in BullMQ's
-- order, in which the events `removed` are emitted.
local function scan_pending(job_key, cursor)
  local key = job_key .. ':dependencies'
  if cursor == '0' and call('SCARD', key) <= SCAN_PAGE then
    return pending_children(job_key), '0'
  end
  local following, children = unpack(call('SSCAN', key, cursor, 'COUNT', SCAN_PAGE))
  return children, following
end

-- Whether any of these jobs has a key of this part.
local function any_has(job_keys, part)
  local keys = {}
  for index, job_key in ipairs(job_keys) do
    keys[index] = job_key .. part
  end
  return count_existing(keys) > 0
end

-- Whether a worker holds the job, or one of those below it that have not ended, level by level.
local function is_locked(job_key, with_children)
  local level, seen = {job_key}, {[job_key] = true}
  while #level > 0 do
    if any_has(level, ':lock') then
      return true
    end
    local below = {}
    for _, parent_key in ipairs(with_children and any_has(level, ':dependencies') and level or {}) do
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

-- Where a job notes its children: part of the key, how to read some of them, how to strike one out.
local NOTES = {
  {':processed', 'HRANDFIELD', 'HDEL'}, {':failed', 'HRANDFIELD', 'HDEL'}, {':unsuccessful', 'ZRANDMEMBER', 'ZREM'},
  {':dependencies', 'SRANDMEMBER', 'SREM'},
}

-- Remove all children of a job. Reads no more of them at a time than it may remove.
-- Returns false when it ended before.
local function uproot_all_children(base, job_id, options)
  local parent = {key = base .. job_id, base = base, id = job_id}
  for _, note in ipairs(NOTES) do
    local part, read, strike_out = unpack(note)
    local children
    repeat
      children = call(read, parent.key .. part, options.budget + 1)
      for _, child_key in ipairs(children) do
        local child_base, child_id = split_key(child_key, base)
        if child_base and not uproot(child_base, child_id, parent, options) then
          return false
        end
        change(strike_out, parent.key .. part, child_key)
      end
    until #children == 0
  end
  return true
end

-- Remove the children of a job that have not ended and that no worker holds, from `cursor` of its pending ones on ('0' = the
-- first), until it has read about `limit` of them (nil = all). Returns from where to go on, '' when it is through.
local function uproot_pending_children(base, job_id, options, cursor, limit)
  local parent = {key = base .. job_id, base = base, id = job_id}
  local looked_at = 0
  repeat
    local children, following = scan_pending(parent.key, cursor)
    for _, child_key in ipairs(children) do
      local child_base, child_id = split_key(child_key, base)
      if child_base and not is_locked(child_key) and not call('ZSCORE', child_base .. 'failed', child_id) then
        if not uproot(child_base, child_id, parent, options) then
          return cursor
        end
        change('SREM', parent.key .. ':dependencies', child_key)
      end
    end
    cursor, looked_at = following, looked_at + #children
  until cursor == '0' or limit and looked_at >= limit
  return cursor == '0' and '' or cursor
end

-- Remove the children of a job; with `options.only_pending` those that have not ended and that no worker holds.
-- Returns false when it ended before.
local function uproot_children(base, job_id, options)
  if options.only_pending then
    return uproot_pending_children(base, job_id, options, '0') == ''
  end
  return uproot_all_children(base, job_id, options)
end

-- Remove a job, its children first. `parent`: whose child it is removed as; nil = its own.
-- options: layout, with_children, only_pending, budget (about how many more jobs this call may remove), begun ({}),
--   heeds_locks: stop at a job that a worker holds, with `is_stopped` set.
-- Returns false when it ended before; what was removed stays removed, and the same call goes on with the rest.
uproot = function(base, job_id, parent, options)
  local queue = queue_of(base)
  local job = read_ties(queue, job_id)
  if job.is_foreign or options.begun[job.key] then
    -- Jobs that are children of each other: it goes when those do that are being removed.
    return true
  end
  options.is_stopped = options.heeds_locks and call('EXISTS', job.key .. ':lock') == 1
  if options.budget <= 0 or options.is_stopped then
    return false
  end
  options.begun[job.key] = true
  local was_pending = parent and call('SISMEMBER', parent.key .. ':dependencies', job.key) == 1
  job.parent = parent or job.parent
  if was_pending and options.with_children then
    -- Who may not use SADD is refused here: the child, which is there already, could not be put back below. SREM of nothing
    -- goes first: see memory.lua.
    call('SREM', parent.key .. ':dependencies', '')
    call('SADD', parent.key .. ':dependencies', job.key)
  end
  if job.parent then
    detach_child(job.parent, job.key, options.layout)
    job.parent = nil
  end
  if options.with_children and not uproot_children(base, job_id, options) then
    if was_pending then
      -- By this the next call finds it again.
      change('SADD', parent.key .. ':dependencies', job.key)
    end
    return false
  end
  options.budget = options.budget - 1
  local place = take_out(queue, job_id)
  if call('EXISTS', job.key) == 1 then
    discard(queue, job, options.layout)
    read_settings(queue, options.layout)
    emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'removed', 'jobId', job_id, 'prev', place)
  end
  return true
end
