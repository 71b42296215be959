-- include: numbers
-- The slots of job schedulers: see `jobs/scheduler.py`, which builds the same id.

-- The id of the job of a slot, which is whole milliseconds as text.
local function slot_job_id(scheduler_id, slot)
  return 'repeat:' .. scheduler_id .. ':' .. slot
end

-- A scheduler's score as its current slot. Scores that are no time read as 0.
local function slot_of(score)
  return text_of(math.floor(number_of(score)))
end
