-- include: batches
-- include: changing
-- Moving the jobs of a paused queue between `wait` and `paused`.

-- Put the jobs of the list `from` into the list `to`, at the end that is worked first, and remove `from`.
--
-- A pause moves `wait` to `paused`, where a BullMQ 5 peer reads it; the jobs of `wait` are next in line. BullMQ 5's own
-- resume renames `paused` over `wait`, and a resume of ours moves `paused` to `wait`.
local function join_lists(from, to)
  if call('EXISTS', from) == 0 then
    return
  end
  if call('EXISTS', to) == 0 then
    change('RENAME', from, to)
  else
    call_in_batches('RPUSH', to, call('LRANGE', from, 0, -1))
    change('DEL', from)
  end
end
