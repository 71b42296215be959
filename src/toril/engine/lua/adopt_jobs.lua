-- Find the active jobs that a worker's own tokens lock: those whose taking was carried out but never answered.
--
-- KEYS[1] active (list)
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] prefix of the worker's tokens
-- ARGV[3] size of the largest job that the worker reads (bytes)
-- ARGV[4...] ids of jobs that are known already: those are left out
-- Returns: {{id, {field, value...}, token, size}...}, some megabytes of them at the most; none = there are no more. The size
--          (bytes) is 0 but for a job that is too large: of that only the small fields come.
-- Cost: O(length of active). Reads only.
-- include: trying
-- include: sizing
local BYTES_AT_ONCE = 8 * 1024 * 1024
local base, prefix, largest = ARGV[1], ARGV[2], tonumber(ARGV[3])
local known, found, bytes = {}, {}, 0

-- The fields of a job, and its size if it is too large to be read: then only the small fields. Nil when it is no hash.
local function read_job(job_key)
  local names = try('HKEYS', job_key)
  if not names then
    return nil
  end
  local size, small = measure_fields(job_key, names)
  if size <= largest then
    return call('HGETALL', job_key), 0
  end
  return read_fields(job_key, small), size
end

for index = 4, #ARGV do
  known[ARGV[index]] = true
end
for _, job_id in ipairs(call('LRANGE', KEYS[1], 0, -1)) do
  if bytes > BYTES_AT_ONCE then
    break
  end
  -- Keys of another type are passed over: they would keep the worker from its other jobs.
  local token = not known[job_id] and try('GET', base .. job_id .. ':lock')
  if type(token) == 'string' and string.sub(token, 1, #prefix) == prefix then
    local fields, size = read_job(base .. job_id)
    if fields then
      found[#found + 1] = {job_id, fields, token, size}
      for _, text in ipairs(fields) do
        bytes = bytes + #text
      end
    end
  end
end
return found
