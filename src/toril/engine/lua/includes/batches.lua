-- Variadic commands in parts: Lua's stack holds only so many arguments.
local BATCH = 1000

-- Run `command key value...` for all values, in order. What undoes that, the caller notes.
local function call_in_batches(command, key, values)
  local total = #values
  if total == 0 then
    return
  end
  if total <= BATCH then
    call(command, key, unpack(values))
    return
  end
  for first = 1, total, BATCH do
    call(command, key, unpack(values, first, math.min(first + BATCH - 1, total)))
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
