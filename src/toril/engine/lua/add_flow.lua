-- Add trees of jobs, in any number of queues: all or nothing. Parents come before their children. Time is the caller's.
--
-- KEYS[1] meta (hash) of the first queue, then that of each other one; all other keys follow from the bases
-- ARGV[1] layout of paused queues (5 or 6)
-- ARGV[2...] for each job: base of its queue's keys, with colon; id, name, data (JSON), opts (JSON), timestamp (ms),
--            delay (ms), priority, lifo (1 or 0), links ('' = none, else JSON: see linking.lua)
-- Returns: {0, id...}, in order; an id that existed is returned as it is, and its job is not changed but for its parent.
--          {code, index} when a job is refused and nothing was written: -5 its parent is not there, -7 it belongs to
--          another parent. The index is that of the job, from 1.
-- Events: those of adding; of a parent all of whose children have completed already: waiting or delayed.
-- Cost: O(jobs), with O(log n) for delayed and prioritized ones.
-- include: linking
local layout = ARGV[1]
local FIELDS = 10
local queues, queues_in_order = {}, {}
local function queue_at(base)
  local queue = queues[base]
  if not queue then
    queue = queue_of(base)
    queues[base] = queue
    queues_in_order[#queues_in_order + 1] = queue
    queue.added = 0
  end
  return queue
end

local nodes = {}
for at = 1, #ARGV - FIELDS, FIELDS do
  local queue = queue_at(ARGV[at + 1])
  queue.added = queue.added + 1
  nodes[#nodes + 1] = {
    queue = queue, links = ARGV[at + 10] ~= '' and cjson.decode(ARGV[at + 10]) or {},
    job = {
      id = ARGV[at + 2], has_own_id = true, name = ARGV[at + 3], data = ARGV[at + 4], opts = ARGV[at + 5],
      timestamp = ARGV[at + 6], delay = tonumber(ARGV[at + 7]), priority = tonumber(ARGV[at + 8]),
      is_lifo = ARGV[at + 9] == '1',
    },
  }
end

-- Each job's parent once all are added, by job key; '' = none.
local parents = {}
local function refusal(node)
  local job_key, wanted = node.queue.base .. node.job.id, node.links.parentKey
  if wanted then
    check_children(wanted)
  end
  if wanted and not parents[wanted] and call('EXISTS', wanted) == 0 then
    return -5
  end
  local held_by = parents[job_key] or call('HGET', job_key, 'parentKey') or ''
  if wanted and held_by ~= '' and held_by ~= wanted and (parents[held_by] or call('EXISTS', held_by) == 1) then
    return -7
  end
  parents[job_key] = wanted or held_by
  return 0
end
for index, node in ipairs(nodes) do
  local code = refusal(node)
  if code < 0 then
    return {code, index}
  end
end

refuse_when_full(queues_in_order[1].marker)
local reply, touched = {0}, {}
for _, queue in ipairs(queues_in_order) do
  read_settings(queue, layout)
  call('INCRBY', queue.id, queue.added)
  note_count(queue.id, queue.added)
end
for _, node in ipairs(nodes) do
  reply[#reply + 1] = add_linked(node.queue, node.job, node.links, touched)
end
local now_ms = tonumber(nodes[1].job.timestamp)
for _, parent in ipairs(touched) do
  release_if_free(parent, layout, now_ms)
end
for _, queue in ipairs(queues_in_order) do
  wake(queue)
end
return reply
