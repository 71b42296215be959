-- Let many failed, completed or delayed jobs run now, oldest first. As in BullMQ they all go to the plain list, whatever
-- their priority, and a delayed one keeps its field `delay`.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] where they are (completed, failed or delayed)   ARGV[4] at most so many
-- ARGV[5] only those that finished until then (ms), or '' for now; of no meaning for delayed ones
-- Returns: {moved, how many more there are, until when was looked (ms)}
-- Events: waiting (prev completed, failed or delayed).
-- Cost: O(moved × log n).
-- include: requeuing
-- include: parents
-- include: batches
-- include: time
local queue = queue_of(ARGV[1])
local state = ARGV[3]
local source = queue[state]
local until_ms = ARGV[5] == '' and text_of(server_now_ms()) or ARGV[5]
local highest = state == 'delayed' and '+inf' or until_ms
local found = call('ZRANGEBYSCORE', source, '-inf', highest, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[4]))
if #found == 0 then
  return {0, 0, until_ms}
end
read_settings(queue, ARGV[2])
trim(queue)
local moved, ids, scores = {}, {}, {}
for index = 1, #found, 2 do
  local job_id, job_key = found[index], queue.base .. found[index]
  ids[#ids + 1] = job_id
  scores[index], scores[index + 1] = found[index + 1], job_id
  -- An id without a job, or with something else in its place, is dropped.
  if call('TYPE', job_key).ok == 'hash' then
    if state ~= 'delayed' then
      reopen(job_key, state)
      local parent = read_parent(job_key)
      if parent then
        update_parent_guarded(nil, reattach_child, parent, job_key, state)
      end
    end
    emit_waiting(queue, job_id, state)
    moved[#moved + 1] = job_id
  end
end
call_in_batches('ZREM', source, ids, 'ZADD', scores)
call_in_batches('LPUSH', queue.target, moved)
queue.has_runnable = #moved > 0
wake(queue)
return {#moved, call('ZCOUNT', source, '-inf', highest), until_ms}
