-- include: numbers
-- include: waking
-- include: changing
-- Limits of the queue (fields of `meta`) and of workers. What is no number counts as not set.
local LONGEST_DURATION_MS = 2 ^ 41

-- A limit as a whole number, or nil: not set, or nothing that can be counted with.
local function limit_of(stored)
  local number = tonumber(stored or '')
  return number and number == number and math.ceil(number) or nil
end

-- How many jobs the rate limit still allows: count, or (0, milliseconds to wait).
local function allowed_by_limit(keys, max, count)
  max = math.max(1, max)
  local stored = call('GET', keys.limiter) or '0'
  local used = tonumber(stored)
  -- Only what Redis can count on: it reads numbers more strictly than Lua.
  if used and used >= 0 and used < max and string.format('%.0f', used) == stored then
    return math.min(count, max - used), 0
  end
  local left_ms = call('PTTL', keys.limiter)
  if used and left_ms > 0 then
    return 0, left_ms
  end
  -- Its time is over, nothing would ever end it, or it cannot be counted with.
  change('DEL', keys.limiter)
  return math.min(count, max), 0
end

-- Count started jobs against the rate limit; the first of a window starts its time.
local function use_limit(keys, used, duration_ms)
  if used > 0 and duration_ms then
    local counted = call('INCRBY', keys.limiter, used)
    if counted ~= used then
      undo_by('DECRBY', keys.limiter, used)
    else
      undo_by('DEL', keys.limiter)
      call('PEXPIRE', keys.limiter, text_of(math.min(math.abs(duration_ms), LONGEST_DURATION_MS)))
    end
  end
end

-- Jobs have left `active` and this call takes no others: wake a worker that the queue's limit kept idle.
local function wake_for_freed(keys, concurrency)
  if call('LLEN', keys.active) < concurrency
      and (call('LLEN', keys.wait) > 0 or call('ZCARD', keys.prioritized) > 0) then
    wake_now(keys.marker)
  end
end
