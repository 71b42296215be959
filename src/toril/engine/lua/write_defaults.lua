-- Write what a manifest says about a queue's jobs, or remove it: for every client of ours that adds to the queue.
--
-- KEYS[1] the queue's defaults (hash): `toril:defaults`
-- ARGV[1] scope of the owner: who manages it, such as one cluster   ARGV[2] uid of the owner: the object with the manifest
-- ARGV[3] generation of the manifest ('' = remove, whichever is stored)   ARGV[4] options (JSON), ARGV[5] sizeLimit (bytes),
--         ARGV[6] priorities (JSON); each '' = says nothing; all '' = remove
-- Returns: 1 when something was changed, 0 when nothing was to be changed, -1 when the defaults are another owner's,
--          -2 when they are of a later generation. Nothing is changed then.
-- Events: none.
-- Cost: O(1).
local key, scope, uid, generation = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local names = {'ownerScope', 'ownerUid', 'generation', 'options', 'sizeLimit', 'priorities'}
local stored = call('HMGET', key, unpack(names))
if stored[2] and (stored[1] ~= scope or stored[2] ~= uid) then
  return -1
end
if generation ~= '' and stored[3] and (tonumber(stored[3]) or 0) > tonumber(generation) then
  return -2
end
if generation == '' or ARGV[4] .. ARGV[5] .. ARGV[6] == '' then
  return call('DEL', key)
end
local fields, is_same = {}, true
for index, name in ipairs(names) do
  fields[#fields + 1], fields[#fields + 2] = name, ARGV[index]
  is_same = is_same and stored[index] == ARGV[index]
end
if is_same then
  return 0
end
call('HSET', key, unpack(fields))
return 1
