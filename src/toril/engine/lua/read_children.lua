-- Read what became of a job's children, in one moment. Children are named by their keys.
--
-- KEYS[1] its processed (hash)   KEYS[2] its failed (hash)   KEYS[3] its unsuccessful (zset)   KEYS[4] its dependencies (set)
-- Returns: {{key, return value (JSON)...}, {key, reason...} of failures that do not count, {key...} failed, {key...} pending}
-- Cost: O(children). Reads only.
return {
  call('HGETALL', KEYS[1]),
  call('HGETALL', KEYS[2]),
  call('ZRANGE', KEYS[3], 0, -1),
  call('SMEMBERS', KEYS[4]),
}
