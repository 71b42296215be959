-- Whether this worker is to take nothing more: see `flag_workers`. A key of another type flags no worker.
local function is_flagged(base, worker_name)
  if worker_name == '' then
    return false
  end
  local is_read, flag = pcall(call, 'HGET', base .. 'toril:draining', worker_name)
  if not is_read and not string.find(tostring(flag), 'WRONGTYPE', 1, true) then
    error(flag, 0)
  end
  return is_read and flag ~= false
end
