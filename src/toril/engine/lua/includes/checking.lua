-- include: queue

-- 0 when a job of the queue is delayed, -1 when there is no such job, -3 when the job is not delayed.
local function check_delayed(queue, job_id)
  if call('EXISTS', queue.base .. job_id) == 0 then
    return -1
  end
  return call('ZSCORE', queue.delayed, job_id) and 0 or -3
end
