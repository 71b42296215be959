-- Flag workers that are to take nothing more, or renew their flags. Time is Redis's.
--
-- KEYS[1] toril:draining (hash): worker's name → since when it is flagged (ms)
-- ARGV[1] lifetime of all flags of the queue from now on (ms)   ARGV[2...] names of workers
-- Returns: how many were not flagged before.
-- Cost: O(names).
-- include: time
-- include: changing
local key, added = KEYS[1], 0
local _, now = server_now_ms()
-- As the first write: HSETNX would be refused when Redis is full.
change('PEXPIRE', key, ARGV[1])
for index = 2, #ARGV do
  added = added + change('HSETNX', key, ARGV[index], now)
end
change('PEXPIRE', key, ARGV[1])
return added
