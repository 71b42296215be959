-- include: changing
-- Deleting jobs' hashes and the keys that belong to them.

-- What belongs to a job beside its hash.
local PARTS = {':logs', ':dependencies', ':processed', ':failed', ':unsuccessful'}

-- Add the job's hash and all its parts to a list of keys to delete.
local function add_job_keys(keys, job_key)
  keys[#keys + 1] = job_key
  for _, part in ipairs(PARTS) do
    keys[#keys + 1] = job_key .. part
  end
end

-- Delete the given jobs with everything that belongs to them, when all else is done.
local function delete_jobs(base, ids)
  for _, job_id in ipairs(ids) do
    add_job_keys(doomed, base .. job_id)
  end
end
