-- include: recovering
-- Which of the stalled jobs are suspects: those whose worker was one of ours and had others beside them.

-- The process of ours that runs a job, as a text that two jobs share if one process runs both; nil = a worker of others.
-- The time of registration distinguishes a process from an earlier one of the same name.
local function process_of(base, workers, job_id)
  local stored = try('HMGET', base .. job_id, 'pb', 'processedOn')
  local name = stored and stored[1]
  if not name then
    return nil
  end
  if workers[name] == nil then
    workers[name] = read_worker(base, name) or false
  end
  local worker = workers[name]
  return worker and name .. (number_of(stored[2]) >= worker.since and ' now' or ' before') or nil
end

-- Of the jobs `ids`, all of them in `active` and stalled: the suspects, as a set.
local function find_suspects(base, active_key, ids)
  local workers, process_by_id, jobs_by_process, suspects = {}, {}, {}, {}
  for _, job_id in ipairs(ids) do
    process_by_id[job_id] = process_of(base, workers, job_id)
  end
  if not next(process_by_id) then
    return suspects
  end
  for _, job_id in ipairs(call('LRANGE', active_key, 0, -1)) do
    local process = process_by_id[job_id] or process_of(base, workers, job_id)
    if process then
      jobs_by_process[process] = (jobs_by_process[process] or 0) + 1
    end
  end
  for job_id, process in pairs(process_by_id) do
    -- One that is not in `active` any more is counted nowhere.
    suspects[job_id] = (jobs_by_process[process] or 0) > 1
  end
  return suspects
end
