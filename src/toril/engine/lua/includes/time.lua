-- Redis's own clock, Unix milliseconds: as a number and as text.
local function server_now_ms()
  local time = call('TIME')
  -- Both parts come as text and are put together as such: to write a number out costs as much as a small command.
  local text = time[1] .. string.sub('00000' .. time[2], -6, -4)
  return tonumber(text), text
end
