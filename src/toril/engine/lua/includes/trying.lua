-- Commands that may find a key of another type.

-- Whether a refusal is about a key's type or content, as against rights or the state of the server.
local function is_about_content(problem)
  return string.find(problem, 'WRONGTYPE', 1, true) or string.find(problem, 'not an integer', 1, true)
    or string.find(problem, 'would overflow', 1, true)
end

local function text_of_problem(problem)
  return type(problem) == 'table' and problem.err or tostring(problem)
end

-- The command's reply; nil when the key is of another type, or holds what cannot be counted with. Other refusals are
-- raised.
local function try(command, ...)
  local is_done, reply = pcall(call, command, ...)
  if is_done then
    return reply
  end
  local problem = text_of_problem(reply)
  if not is_about_content(problem) then
    error(problem, 0)
  end
  return nil
end
