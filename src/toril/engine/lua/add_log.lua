-- Append a row to a job's log.
--
-- KEYS[1] the job (hash)   KEYS[2] its logs (list)
-- ARGV[1] row   ARGV[2] how many rows to keep, the newest, or 0 or '' for all
-- Returns: how many rows there are now, or -1 when there is no such job.
-- Cost: O(1).
if call('EXISTS', KEYS[1]) == 0 then
  return -1
end
local rows = call('RPUSH', KEYS[2], ARGV[1])
undo[1] = {'RPOP', KEYS[2], {'1'}}
local keep = tonumber(ARGV[2])
if keep and keep > 0 then
  call('LTRIM', KEYS[2], -keep, -1)
  return math.min(rows, keep)
end
return rows
