-- include: queue
-- include: parents
-- What a processor asked for in place of an end. The attempt does not count.
local FOR_EVER = '9007199254740991'

-- Carry out `limit`, `delay` or `waiting-children` for an active job, which has been taken out of `active`:
--   limit: let the queue take no job for so long (0 = for the time that was set before); sets queue.limited_ms
-- Returns whether the caller is to put the job in front of what waits; else it has its place. `wake(queue)` afterwards.
local function set_aside(queue, finish, now_ms)
  local delay_ms = finish.details.delay_ms or 0
  if finish.kind == 'limit' then
    if delay_ms > 0 then
      change('SET', queue.limiter, FOR_EVER, 'PX', text_of(delay_ms))
    end
    queue.limited_ms = math.max(call('PTTL', queue.limiter), 0)
    return true
  end
  if finish.kind == 'delay' then
    change('HSET', finish.key, 'delay', text_of(delay_ms))
    place_delayed(queue.delayed, queue.events, finish.id, now_ms + delay_ms)
    queue.has_delayed = true
    return false
  end
  call('ZADD', queue.waiting_children, text_of(now_ms), finish.id)
  undo_by('ZREM', queue.waiting_children, finish.id)
  emit(queue.events, '*', 'event', 'waiting-children', 'jobId', finish.id, 'prev', 'active')
  -- The last child may have ended since the processor looked.
  release_if_free({key = finish.key, base = queue.base, id = finish.id}, queue.layout, now_ms)
  return false
end
