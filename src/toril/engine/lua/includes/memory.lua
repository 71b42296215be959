-- Redis at `maxmemory` refuses commands that may take memory (those with its flag `denyoom`, such as HSET, LPUSH, SET, XADD
-- and ZADD). Inside a script it does so only until the first write, whatever command that is. So the first write decides:
--   a script that adds begins with `refuse_when_full`: it adds all or nothing;
--   a script that ends, moves or removes jobs begins with a command that Redis never refuses for memory: DEL, LREM, SREM,
--   XTRIM or ZREM. It goes on when Redis is full, as it must: jobs that end make room.

-- Raise Redis's error when it is full, else change nothing: ZADD with XX adds no member, and none has the empty name. A
-- marker of another type fails here too.
local function refuse_when_full(marker_key)
  call('ZADD', marker_key, 'XX', '0', '')
end
