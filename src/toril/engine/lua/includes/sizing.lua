-- What is read of a job that is larger than its worker reads: its small fields, and how large it is.
local SMALL_BYTES, SMALL_FIELDS = 64 * 1024, 100

-- The size of a job whose fields have these names (bytes), and the names of its small fields.
local function measure_fields(job_key, names)
  local size, small = 0, {}
  for _, name in ipairs(names) do
    local length = call('HSTRLEN', job_key, name)
    size = size + length
    if length <= SMALL_BYTES and #small < SMALL_FIELDS then
      small[#small + 1] = name
    end
  end
  return size, small
end

-- Fields with these names, as HGETALL replies.
local function read_fields(job_key, names)
  local fields = {}
  for index, name in ipairs(names) do
    fields[index * 2 - 1], fields[index * 2] = name, call('HGET', job_key, name)
  end
  return fields
end
