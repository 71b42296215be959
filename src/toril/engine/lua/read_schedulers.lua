-- Read job schedulers and the jobs of their current slots, in one moment. Time is Redis's.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon
-- ARGV[2] which: `ids` (those named), `rank` (by the time of their slots) or `due` (slots that have come, oldest first)
-- ARGV[3...] ids; or first and last rank (-1 = to the end); or how many to pass over and how many to read at most
-- Returns: {now (ms), time of the first slot that has not come yet (ms, '' = none),
--           the client that opened the queue last, such as bullmq:6.7.0 ('' = not known),
--           {id, slot (ms), {field, value...}, {ats, opts, name, data} of the slot's job or {}}...}
--           A named scheduler that is not there is left out.
-- Cost: O(log n + read). Reads only.
-- include: scheduling
local queue = queue_of(ARGV[1])
local now_ms = server_now_ms()
local found = {}
if ARGV[2] == 'ids' then
  for index = 3, #ARGV do
    local slot = call('ZSCORE', queue.schedulers, ARGV[index])
    if slot then
      found[#found + 1] = ARGV[index]
      found[#found + 1] = slot
    end
  end
elseif ARGV[2] == 'rank' then
  found = call('ZRANGE', queue.schedulers, ARGV[3], ARGV[4], 'WITHSCORES')
else
  found = call('ZRANGEBYSCORE', queue.schedulers, '-inf', text_of(now_ms), 'WITHSCORES', 'LIMIT', ARGV[3], ARGV[4])
end
local coming = call('ZRANGEBYSCORE', queue.schedulers, '(' .. text_of(now_ms), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local client = try('HGET', queue.meta, 'version')
local reply = {
  now_ms,
  coming[2] and number_of(coming[2]) > 0 and slot_of(coming[2]) or '',
  client or '',
}
for index = 1, #found, 2 do
  local scheduler_key = queue.schedulers .. ':' .. found[index]
  local slot = slot_of(found[index + 1])
  local fields = try('HGETALL', scheduler_key)
  local job = try('HMGET', scheduler_key .. ':' .. slot, 'ats', 'opts', 'name', 'data')
  if not job or not (job[2] or job[3]) then
    job = {}
  end
  reply[#reply + 1] = {found[index], slot, fields or {}, job}
end
return reply
