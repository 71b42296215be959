-- include: changing
-- Variadic commands in parts: Lua's stack holds only so many arguments.
local BATCH = 1000

-- Run `command key value...` for all values, in order. What undoes it: of a push to take as many away, else `inverse` with
-- the values `back`, if given. That may be done also for values which the command has not come to.
local function call_in_batches(command, key, values, inverse, back)
  local pop = command == 'LPUSH' and 'LPOP' or command == 'RPUSH' and 'RPOP'
  for first = 1, #values, BATCH do
    local last = math.min(first + BATCH - 1, #values)
    call(command, key, unpack(values, first, last))
    if pop then
      undo_by(pop, key, last - first + 1)
    elseif inverse and first == 1 then
      undo[#undo + 1] = {inverse, key, back}
    end
  end
end

-- How many of the keys there are.
local function count_existing(keys)
  local count = 0
  for first = 1, #keys, BATCH do
    count = count + call('EXISTS', unpack(keys, first, math.min(first + BATCH - 1, #keys)))
  end
  return count
end
