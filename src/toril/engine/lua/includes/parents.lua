-- include: queue
-- include: removing
-- What a child's end, removal or return means for its parent, which may be in another queue. The parent's keys follow
-- from the child's field `parent` ({id, queueKey}): ids may hold colons, so `parentKey` alone does not say where the queue ends.
--
--   read_parent(job_key)                                    the parent of a stored job, or nil: it has none
--   parent_of(parent_key, parent_json)                      the same from the two fields
--   release_parent(parent, layout, now_ms)                  let it run, if it waits for children
--   release_if_free(parent, layout, now_ms)                 the same, if no child of its is pending
--   child_completed(parent, child_key, value, layout, now_ms)
--   child_failed(parent, child_key, reason, layout, now_ms) finally; what follows is said by the child's own policy
--   child_ended(child_key, finish, layout, now_ms)          one of the two, for a job of `finish_and_take`
--   detach_child(parent, child_key, layout, hard_base)      a child is removed; before its hash is deleted
--   detach_children(base, ids, layout)                      the same for jobs that retention removes
--   reattach_child(parent, child_key, previous)             a finished child (`failed` or `completed`) is to run again
--   check_children(parent_key)                              before one is added
--   update_parent_guarded(base, update, parent, child_key, ...)
--                                                           one of these for a child that has left its place
--   pay_parents(base, layout, now_ms)                       the updates of parents that were not possible then
--
-- `layout` is that of paused queues. Each function wakes the parent's queue itself. Cost: O(1) or O(log n) each.

-- Our own key of a queue (hash): updates that parents of its jobs still wait for, by the child's key.
local OWED, OWED_MS, PAY_AT_ONCE = 'toril:owed', 30 * 24 * 3600 * 1000, 100

-- What a child's final failure does to its parent; at most one is set.
local POLICIES = {'fpof', 'cpof', 'idof', 'rdof'}

local function parent_of(parent_key, parent_json)
  if not parent_key and not parent_json then
    return nil
  end
  local is_json, link = pcall(cjson.decode, parent_json or '')
  if not is_json or type(link) ~= 'table' or type(link.queueKey) ~= 'string' or type(link.id) ~= 'string' then
    local base, id = string.match(parent_key or '', '^(.*:)([^:]*)$')
    return base and {key = parent_key, base = base, id = id}
  end
  local parent = {key = link.queueKey .. ':' .. link.id, base = link.queueKey .. ':', id = link.id}
  for _, policy in ipairs(POLICIES) do
    if link[policy] and link[policy] ~= cjson.null then
      parent.policy = policy
      break
    end
  end
  return parent
end

local function read_parent(job_key)
  local fields = try('HMGET', job_key, 'parentKey', 'parent')
  -- What is no hash has no parent.
  return fields and parent_of(fields[1], fields[2]) or nil
end

-- The state to which `update_parent_guarded` goes back. What the parent has stored of its child stays when only letting the
-- parent run was impossible.
local noted

-- Take a parent out of a set. Reads the queue's settings. Returns whether it was there.
local function pick_up(queue, set_key, parent, layout)
  local score = call('ZSCORE', set_key, parent.id)
  if not score then
    return false
  end
  noted = save()
  read_settings(queue, layout)
  -- A stream of another type is to be found here, not when all else is done.
  call('XLEN', queue.events)
  call('ZREM', set_key, parent.id)
  undo_by('ZADD', set_key, score, parent.id)
  return true
end

-- Raises when the parent's keys for its children have another type: the child's end could not be stored there.
local function check_children(parent_key)
  call('SCARD', parent_key .. ':dependencies')
  call('HLEN', parent_key .. ':processed')
end

-- Put a parent that has been picked up where it runs from, ahead of what waits there.
local function let_parent_run(queue, parent, now_ms)
  local fields = call('HMGET', parent.key, 'priority', 'delay')
  local priority, delay_ms = number_of(fields[1]), number_of(fields[2])
  if delay_ms > 0 then
    place_delayed(queue.delayed, queue.events, parent.id, now_ms + delay_ms)
    queue.has_delayed = true
  else
    if priority > 0 then
      place_prioritized(queue.prioritized, queue.pc, parent.id, priority)
    else
      place_in_list('RPUSH', queue.target, parent.id)
    end
    emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
    queue.has_runnable = true
  end
  wake(queue)
end

local function release_parent(parent, layout, now_ms)
  local queue = queue_of(parent.base)
  if call('EXISTS', parent.key) == 1 and pick_up(queue, queue.waiting_children, parent, layout) then
    let_parent_run(queue, parent, now_ms)
  end
end

local function release_if_free(parent, layout, now_ms)
  if call('SCARD', parent.key .. ':dependencies') == 0 then
    release_parent(parent, layout, now_ms)
  end
end

local function child_completed(parent, child_key, value, layout, now_ms)
  if change('SREM', parent.key .. ':dependencies', child_key) == 1 then
    change('HSET', parent.key .. ':processed', child_key, value)
    release_if_free(parent, layout, now_ms)
  end
end

-- Let the parent's next worker fail it instead of running it; one that waits is handed to a worker for that at once.
local function defer_failure(parent, child_key, layout, now_ms)
  local queue = queue_of(parent.base)
  if call('EXISTS', parent.key) == 0 then
    return
  end
  local is_parked = pick_up(queue, queue.waiting_children, parent, layout)
  if not is_parked and pick_up(queue, queue.delayed, parent, layout) then
    change('HSET', parent.key, 'delay', '0')
    is_parked = true
  end
  if is_parked or not call('ZSCORE', queue.failed, parent.id) then
    change('HSET', parent.key, 'defa', 'child ' .. child_key .. ' failed')
  end
  if is_parked then
    let_parent_run(queue, parent, now_ms)
  end
end

local function child_failed(parent, child_key, reason, layout, now_ms)
  local policy = parent.policy
  if not policy or change('SREM', parent.key .. ':dependencies', child_key) == 0 then
    return
  end
  if policy == 'fpof' then
    change('ZADD', parent.key .. ':unsuccessful', text_of(now_ms), child_key)
    defer_failure(parent, child_key, layout, now_ms)
  elseif policy == 'cpof' then
    change('HSET', parent.key .. ':failed', child_key, reason)
    release_parent(parent, layout, now_ms)
  else
    if policy == 'idof' then
      change('HSET', parent.key .. ':failed', child_key, reason)
    end
    release_if_free(parent, layout, now_ms)
  end
end

-- hard_base: nil, or the base of a queue whose jobs are removed in bulk (drain, clean): a parent in the same queue that
-- waited for this child alone then goes too, and one elsewhere runs without an event, as with BullMQ.
local function detach_child(parent, child_key, layout, hard_base)
  local dependencies = parent.key .. ':dependencies'
  if call('SISMEMBER', dependencies, child_key) == 0 then
    return
  end
  local queue = queue_of(parent.base)
  local is_free = call('SCARD', dependencies) == 1 and pick_up(queue, queue.waiting_children, parent, layout)
  change('SREM', dependencies, child_key)
  if not is_free then
    return
  end
  if hard_base == parent.base then
    local grandparent = read_parent(parent.key)
    if grandparent then
      detach_child(grandparent, parent.key, layout, hard_base)
    end
    delete_jobs(parent.base, {parent.id})
    return
  end
  -- Its delay and priority do not count here, as with BullMQ.
  place_in_list('RPUSH', queue.target, parent.id)
  if not hard_base then
    emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
  end
  queue.has_runnable = true
  wake(queue)
end

-- Update a child's parent: `update(parent, child_key, ...)`. Keys of another type in the parent's queue keep no child from
-- its end. The update is then stored in `toril:owed` of the child's queue, from where `pay_parents` makes it.
-- `base`: of the child's queue; nil = the update is dropped.
local function update_parent_guarded(base, update, parent, child_key, ...)
  noted = save()
  local is_updated, problem = pcall(update, parent, child_key, ...)
  if is_updated then
    return
  end
  problem = text_of_problem(problem)
  if not is_about_content(problem) then
    error(problem, 0)
  end
  go_back_to(noted)
  if base and try('HLEN', base .. OWED) then
    change('HSET', base .. OWED, child_key, cjson.encode(parent))
    call('PEXPIRE', base .. OWED, OWED_MS)
  end
end

-- Make an owed update: store how the child has ended, if its parent still waits for that, and let the parent go on by what
-- its keys hold of the child.
local function pay_parent(parent, child_key, layout, now_ms)
  local finished_on, value, reason = unpack(call('HMGET', child_key, 'finishedOn', 'returnvalue', 'failedReason'))
  if finished_on and value then
    child_completed(parent, child_key, value, layout, now_ms)
  elseif finished_on and reason then
    child_failed(parent, child_key, reason, layout, now_ms)
  elseif call('EXISTS', child_key) == 0 then
    detach_child(parent, child_key, layout)
  end
  if call('ZSCORE', parent.key .. ':unsuccessful', child_key) then
    defer_failure(parent, child_key, layout, now_ms)
  elseif parent.policy == 'cpof' and call('HEXISTS', parent.key .. ':failed', child_key) == 1 then
    release_parent(parent, layout, now_ms)
  else
    release_if_free(parent, layout, now_ms)
  end
end

-- The parent in an entry of `toril:owed`; nil when the entry is invalid.
local function read_owed(json)
  local is_json, parent = pcall(cjson.decode, json)
  return is_json and type(parent) == 'table' and type(parent.key) == 'string' and parent.base and parent.id
    and parent or nil
end

-- Make the owed updates of the parents of a queue's jobs. An update stays owed while the parent's keys have another type.
local function pay_parents(base, layout, now_ms)
  local owed = try('HRANDFIELD', base .. OWED, PAY_AT_ONCE, 'WITHVALUES') or {}
  for index = 1, #owed, 2 do
    local parent, saved = read_owed(owed[index + 1]), save()
    local is_paid, problem = pcall(pay_parent, parent, owed[index], layout, now_ms)
    problem = text_of_problem(problem)
    if parent and is_paid then
      call('HDEL', base .. OWED, owed[index])
      undo[#undo + 1] = function(run)
        run('HSET', base .. OWED, owed[index], owed[index + 1])
        run('PEXPIRE', base .. OWED, OWED_MS)
      end
    elseif not parent or is_about_content(problem) then
      go_back_to(saved)
    else
      error(problem, 0)
    end
  end
end

local function detach_children(base, ids, layout)
  for _, job_id in ipairs(ids) do
    local parent = read_parent(base .. job_id)
    if parent then
      update_parent_guarded(base, detach_child, parent, base .. job_id, layout)
    end
  end
end

local function update_parent(parent, child_key, finish, layout, now_ms)
  if finish.kind == 'completed' then
    child_completed(parent, child_key, finish.value, layout, now_ms)
  else
    child_failed(parent, child_key, finish.value, layout, now_ms)
  end
  if finish.keep_count == 0 then
    detach_child(parent, child_key, layout)
  end
end

-- finish: id, kind, value and keep_count of a job that is being ended. A child that is not kept is detached.
local function child_ended(child_key, finish, layout, now_ms)
  local parent = read_parent(child_key)
  if parent then
    local base = string.sub(child_key, 1, -#finish.id - 1)
    update_parent_guarded(base, update_parent, parent, child_key, finish, layout, now_ms)
  end
end

-- The parent's own state does not change.
local function reattach_child(parent, child_key, previous)
  if call('EXISTS', parent.key) == 0 then
    return
  end
  local was_noted
  if previous == 'failed' then
    was_noted = change('ZREM', parent.key .. ':unsuccessful', child_key) == 1
      or change('HDEL', parent.key .. ':failed', child_key) == 1
  else
    was_noted = change('HDEL', parent.key .. ':processed', child_key) == 1
  end
  if was_noted then
    change('SADD', parent.key .. ':dependencies', child_key)
  end
end
