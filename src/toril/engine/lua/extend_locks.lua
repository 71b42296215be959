-- Keep running jobs ours. A lock that ran out is taken back when no worker has started the job since.
--
-- KEYS[1] active (list)   KEYS[2] stalled (set)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] new length of the locks (ms)
-- ARGV[3...] for each job: id, token, attempts started (as of our taking it)
-- Returns: the ids that are no longer ours.
-- Cost: O(jobs); O(length of active) for a lock that ran out.
-- include: trying
local active_key, stalled_key = KEYS[1], KEYS[2]
local base, lock_ms = ARGV[1], ARGV[2]
local lost, kept = {}, {}
for at = 2, #ARGV - 3, 3 do
  local job_id, token, ats = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local lock_key = base .. job_id .. ':lock'
  if redis.pcall('GET', lock_key) == token then
    call('PEXPIRE', lock_key, lock_ms)
    kept[#kept + 1] = job_id
  -- A key of another type is that job's trouble alone: the locks of all others are to be renewed.
  elseif try('GET', lock_key) == false and try('HGET', base .. job_id, 'ats') == ats
      and call('LPOS', active_key, job_id) then
    -- Before SET: Redis refuses that as the first write when it is full.
    call('SREM', stalled_key, job_id)
    call('SET', lock_key, token, 'PX', lock_ms)
    undo[#undo + 1] = {'DEL', lock_key, {}}
    kept[#kept + 1] = job_id
  else
    lost[#lost + 1] = job_id
  end
end
if #kept > 0 then
  call('SREM', stalled_key, unpack(kept))
end
return lost
