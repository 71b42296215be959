-- include: numbers
-- include: batches
-- include: changing
-- BullMQ's metrics: `metrics:<kind>` (hash: count, prevTS, prevCount) and `metrics:<kind>:data` (list), one number a
-- minute, newest first. Keys of another type keep no job from its end.

-- Count jobs that have ended as `kind`, all at this moment; `points` minutes are kept.
local function measure_kind(base, kind, ended, points, now_ms)
  local key, data_key = base .. 'metrics:' .. kind, base .. 'metrics:' .. kind .. ':data'
  local names = {'count', 'prevTS', 'prevCount'}
  local stored = try('HMGET', key, unpack(names))
  if not stored or not try('LLEN', data_key) then
    return
  end
  local before = number_of(stored[1])
  undo[#undo + 1] = function(run)
    put_fields_back(run, key, names, stored)
  end
  call('HSET', key, 'count', text_of(before + ended))
  if not stored[2] then
    call('HSET', key, 'prevTS', text_of(now_ms), 'prevCount', '0')
    return
  end
  local minutes = math.min(math.floor(now_ms / 60000) - math.floor(number_of(stored[2]) / 60000), points)
  if minutes > 0 then
    local numbers = {text_of(before - number_of(stored[3]))}
    for minute = 2, minutes do
      numbers[minute] = '0'
    end
    call('HSET', key, 'prevCount', text_of(before), 'prevTS', text_of(now_ms))
    call_in_batches('LPUSH', data_key, numbers)
    local oldest = call('LRANGE', data_key, points, -1)
    call('LTRIM', data_key, 0, points - 1)
    if #oldest > 0 then
      undo[#undo + 1] = {'RPUSH', data_key, oldest}
    end
  end
end

-- Count jobs that have ended: `ended` is {completed = n, failed = n}.
local function measure(base, ended, points, now_ms)
  for kind, count in pairs(ended) do
    if count > 0 then
      measure_kind(base, kind, count, points, now_ms)
    end
  end
end
