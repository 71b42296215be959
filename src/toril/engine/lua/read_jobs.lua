-- Read a page of the jobs of one state; ids without a job (or with something else in its place) are left out.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] state   ARGV[3] first   ARGV[4] last (ranks; -1 = to the end)
-- ARGV[5] where ranks count from: first (what runs next or is oldest) or last (what came last)
-- Returns: {how many ids there were, {id, {field, value...}}...}
-- Cost: O(first + page). Reads only.
-- include: queue
-- include: trying
local queue = queue_of(ARGV[1])
local state, first, last, is_from_first = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == 'first'

-- Ranks of a list whose right end is next in line.
local function read_list(key, from, to)
  local length = call('LLEN', key)
  if from >= length or to < from then
    return {}
  end
  if not is_from_first then
    return call('LRANGE', key, from, to)
  end
  local found = call('LRANGE', key, -math.min(to, length - 1) - 1, -from - 1)
  local turned = {}
  for index = #found, 1, -1 do
    turned[#turned + 1] = found[index]
  end
  return turned
end

-- Both lists as one: what is in `paused` goes on the right of `wait` when the queue is resumed.
local function read_waiting()
  local lists = {queue.paused, queue.wait}
  if not is_from_first then
    lists = {queue.wait, queue.paused}
  end
  local split = call('LLEN', lists[1])
  local ids = read_list(lists[1], first, math.min(last, split - 1))
  for _, job_id in ipairs(read_list(lists[2], math.max(first - split, 0), last - split)) do
    ids[#ids + 1] = job_id
  end
  return ids
end

if last < 0 then
  last = 9007199254740991
end
local ids
if state == 'waiting' then
  ids = read_waiting()
elseif state == 'active' then
  ids = read_list(queue.active, first, last)
else
  local key = queue.base .. state
  ids = call(is_from_first and 'ZRANGE' or 'ZREVRANGE', key, first, string.format('%.0f', last))
end
local jobs = {#ids}
for _, job_id in ipairs(ids) do
  local fields = try('HGETALL', queue.base .. job_id)
  if fields and #fields > 0 then
    jobs[#jobs + 1] = {job_id, fields}
  end
end
return jobs
