-- include: batches
-- include: changing

-- Put what waits in `wait` into `paused`, where a BullMQ 5 peer looks for it; its resume renames `paused` over `wait`.
-- What is in `wait` is next in line: it goes to the end that is worked first.
local function gather_paused(wait_key, paused_key)
  if call('EXISTS', wait_key) == 0 then
    return
  end
  if call('EXISTS', paused_key) == 0 then
    change('RENAME', wait_key, paused_key)
  else
    call_in_batches('RPUSH', paused_key, call('LRANGE', wait_key, 0, -1))
    change('DEL', wait_key)
  end
end
