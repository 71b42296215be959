-- Read one job and where it is, in one moment.
--
-- KEYS[1] completed (zset)   KEYS[2] failed (zset)   KEYS[3] delayed (zset)   KEYS[4] prioritized (zset)
-- KEYS[5] active (list)      KEYS[6] wait (list)     KEYS[7] paused (list)    KEYS[8] waiting-children (zset)
-- KEYS[9] the job (hash)
-- ARGV[1] id
-- Returns: {state, {field, value...}}; the fields are empty when there is no such job.
-- Cost: O(log n); O(n) for jobs in a list. Reads only.
local job_id = ARGV[1]
local state = 'unknown'
if call('ZSCORE', KEYS[1], job_id) then
  state = 'completed'
elseif call('ZSCORE', KEYS[2], job_id) then
  state = 'failed'
elseif call('ZSCORE', KEYS[3], job_id) then
  state = 'delayed'
elseif call('ZSCORE', KEYS[4], job_id) then
  state = 'prioritized'
elseif call('LPOS', KEYS[5], job_id) then
  state = 'active'
elseif call('LPOS', KEYS[6], job_id) or call('LPOS', KEYS[7], job_id) then
  state = 'waiting'
elseif call('ZSCORE', KEYS[8], job_id) then
  state = 'waiting-children'
end
return {state, call('HGETALL', KEYS[9])}
