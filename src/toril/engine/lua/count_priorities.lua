-- Count the waiting jobs of each of the given priorities.
--
-- KEYS[1] wait (list)   KEYS[2] paused (list)   KEYS[3] prioritized (zset)
-- ARGV[1...] priorities; 0 = the jobs without one
-- Returns: a number for each, in order.
-- Cost: O(priorities × log n). Reads only.
local counts = {}
for index, text in ipairs(ARGV) do
  local priority = tonumber(text)
  if priority == 0 then
    counts[index] = call('LLEN', KEYS[1]) + call('LLEN', KEYS[2])
  else
    counts[index] = call('ZCOUNT', KEYS[3],
      string.format('%.0f', priority * 4294967296), string.format('(%.0f', (priority + 1) * 4294967296))
  end
end
return counts
