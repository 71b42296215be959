-- Numbers in texts of Redis: written, and read.
-- A number as decimal text without exponent or loss, for hash fields, scores and ids.
local function text_of(number)
  if number == math.floor(number) then
    return string.format('%.0f', number)
  end
  return string.format('%.17g', number)
end

-- A number as text, read; 0 when there is none, or none that can be counted with.
local function number_of(text)
  local number = tonumber(text or '')
  if not number or number ~= number or math.abs(number) == math.huge then
    return 0
  end
  return number
end

-- The due time (ms) in a score of `delayed`; nil when there is none, or none that ever comes.
local function due_time_of(score)
  local number = tonumber(score or '')
  if number and math.abs(number) ~= math.huge then
    return number / 4096
  end
  return nil
end
