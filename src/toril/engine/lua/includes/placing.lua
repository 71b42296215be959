-- include: numbers
-- include: events
-- include: changing
-- Where runnable and delayed jobs stand.

-- Score in `delayed`: the due millisecond times 4096 plus the place within it; ties beyond 4095 share the last place.
local function delayed_score(delayed_key, due_ms)
  local lowest = due_ms * 4096
  local highest = lowest + 4095
  local last = call('ZREVRANGEBYSCORE', delayed_key, highest, lowest, 'WITHSCORES', 'LIMIT', 0, 1)
  if not last[2] then
    return lowest
  end
  return math.min(tonumber(last[2]) + 1, highest)
end

-- Put a job into `delayed`, with its event (which carries the due time, not the duration).
local function place_delayed(delayed_key, events_key, job_id, due_ms)
  call('ZADD', delayed_key, text_of(delayed_score(delayed_key, due_ms)), job_id)
  undo_by('ZREM', delayed_key, job_id)
  emit(events_key, '*', 'event', 'delayed', 'jobId', job_id, 'delay', text_of(due_ms))
end

-- Score in `prioritized`: by priority, then in order of arrival.
local function prioritized_score(priority, pc_key)
  local number = try('INCR', pc_key)
  if number then
    note_count(pc_key, 1)
  else
    -- Nothing that can be counted on: it begins anew, so that it keeps no job from running.
    change('SET', pc_key, '1')
    number = 1
  end
  return text_of(priority * 4294967296 + number % 4294967296)
end

-- Put a job among those with a priority.
local function place_prioritized(prioritized_key, pc_key, job_id, priority)
  call('ZADD', prioritized_key, prioritized_score(priority, pc_key), job_id)
  undo_by('ZREM', prioritized_key, job_id)
end

-- Push a job to a list of runnable ones.
local function place_in_list(push, key, job_id)
  call(push, key, job_id)
  undo_by(push == 'LPUSH' and 'LPOP' or 'RPOP', key, '1')
end

-- Whether a paused queue keeps its jobs in `paused`: by layout, or because a BullMQ 5 peer shows itself. Its resume
-- renames `paused` over `wait`, and what is in `wait` then is lost; BullMQ 6 merges the two.
local function is_kept_apart(paused_key, meta_key, layout)
  return layout == '5' or call('EXISTS', paused_key) == 1
    or string.sub(call('HGET', meta_key, 'version') or '', 1, 9) == 'bullmq:5.'
end

-- The list that new runnable jobs go to.
local function waiting_list(wait_key, paused_key, meta_key, layout, is_paused)
  if is_paused and is_kept_apart(paused_key, meta_key, layout) then
    return paused_key
  end
  return wait_key
end
