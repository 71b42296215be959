-- Replace a job's data.
--
-- KEYS[1] the job (hash)
-- ARGV[1] data (JSON)
-- Returns: 0, or -1 when there is no such job.
-- Cost: O(1).
if call('EXISTS', KEYS[1]) == 0 then
  return -1
end
call('HSET', KEYS[1], 'data', ARGV[1])
return 0
