-- Read a page of a list's jobs; ids without a job (or with something else in its place) are left out.
--
-- KEYS[1] the list or sorted set   KEYS[2] the queue's base as a key name
-- ARGV[1] type (list or zset)   ARGV[2] first   ARGV[3] last (ranks, from the end that is oldest or next)
-- Returns: {{id, {field, value...}}...}
-- Cost: O(first + page). Reads only.
local ids
if ARGV[1] == 'list' then
  -- The right end is next in line.
  local first, last = -tonumber(ARGV[2]) - 1, -tonumber(ARGV[3]) - 1
  if tonumber(ARGV[3]) < 0 then
    last = 0
  end
  ids = {}
  local found = redis.call('LRANGE', KEYS[1], last, first)
  for index = #found, 1, -1 do
    ids[#ids + 1] = found[index]
  end
else
  ids = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
end
local jobs = {}
for _, job_id in ipairs(ids) do
  local fields = redis.pcall('HGETALL', KEYS[2] .. job_id)
  if not fields.err and #fields > 0 then
    jobs[#jobs + 1] = {job_id, fields}
  end
end
return jobs
