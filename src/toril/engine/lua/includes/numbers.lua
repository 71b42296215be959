-- A number as decimal text without exponent or loss, for hash fields, scores and ids.
local function text_of(number)
  if number == math.floor(number) then
    return string.format('%.0f', number)
  end
  return string.format('%.17g', number)
end
