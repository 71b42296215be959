-- Find the active jobs that a worker's own tokens lock: those whose taking was carried out but never answered.
--
-- KEYS[1] active (list)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] prefix of the worker's tokens
-- Returns: {{id, {field, value...}, token}...}
-- Cost: O(length of active). Reads only.
local base, prefix = ARGV[1], ARGV[2]
local found = {}
for _, job_id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  -- Keys of another type are passed over: they would keep the worker from its other jobs.
  local token = redis.pcall('GET', base .. job_id .. ':lock')
  if type(token) == 'string' and string.sub(token, 1, #prefix) == prefix then
    local fields = redis.pcall('HGETALL', base .. job_id)
    if not fields.err then
      found[#found + 1] = {job_id, fields, token}
    end
  end
end
return found
