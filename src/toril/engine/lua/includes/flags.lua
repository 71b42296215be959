-- Whether this worker is to take nothing more: see `flag_workers`. A key of another type flags nobody.
local function is_flagged(base, worker_name)
  return worker_name ~= '' and type(redis.pcall('HGET', base .. 'toril:draining', worker_name)) == 'string'
end
