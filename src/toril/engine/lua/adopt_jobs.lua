-- Find the active jobs that a worker's own tokens lock: those whose taking was carried out but never answered.
--
-- KEYS[1] active (list)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] prefix of the worker's tokens
-- ARGV[3...] ids of jobs that are known already: those are left out
-- Returns: {{id, {field, value...}, token}...}, some megabytes of them at the most; none = there are no more.
-- Cost: O(length of active). Reads only.
-- include: trying
local BYTES_AT_ONCE = 8 * 1024 * 1024
local base, prefix = ARGV[1], ARGV[2]
local known, found, bytes = {}, {}, 0
for index = 3, #ARGV do
  known[ARGV[index]] = true
end
for _, job_id in ipairs(call('LRANGE', KEYS[1], 0, -1)) do
  if bytes > BYTES_AT_ONCE then
    break
  end
  -- Keys of another type are passed over: they would keep the worker from its other jobs.
  local token = not known[job_id] and try('GET', base .. job_id .. ':lock')
  if type(token) == 'string' and string.sub(token, 1, #prefix) == prefix then
    local fields = try('HGETALL', base .. job_id)
    if fields then
      found[#found + 1] = {job_id, fields, token}
      for _, text in ipairs(fields) do
        bytes = bytes + #text
      end
    end
  end
end
return found
