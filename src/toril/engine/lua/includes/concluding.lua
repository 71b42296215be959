-- The tail of every script that writes: run it, or undo what it did and raise why.
local is_done, reply = pcall(work)
if is_done and at_end then
  local is_ended, problem = pcall(at_end)
  if not is_ended then
    is_done, reply = false, problem
  end
end
if is_done then
  return reply
end

local function text_of(problem)
  local text = type(problem) == 'table' and problem.err or tostring(problem)
  return (string.gsub(text, '%c', ' '))
end

-- Other commands that do the same, for users who may not use the first.
local OTHERWISE = {
  DEL = function(...)
    return redis.pcall('UNLINK', ...)
  end,
  LPOP = function(key, count)
    return redis.pcall('LTRIM', key, count, '-1')
  end,
  RPOP = function(key, count)
    return redis.pcall('LTRIM', key, '0', -count - 1)
  end,
  RPUSH = function(key, ...)
    return redis.pcall('LPUSH', key, ...)
  end,
  LPUSH = function(key, ...)
    return redis.pcall('RPUSH', key, ...)
  end,
  LINSERT = function(key, _, _, member)
    return redis.pcall('RPUSH', key, member)
  end,
  HSET = function(...)
    return redis.pcall('HMSET', ...)
  end,
  ZADD = function(key, ...)
    local reply
    for index = 1, select('#', ...), 2 do
      local score, member = select(index, ...)
      reply = redis.pcall('ZINCRBY', key, score, member)
    end
    return reply
  end,
  ZREM = function(key, ...)
    local reply
    for _, member in ipairs({...}) do
      local rank = redis.pcall('ZRANK', key, member)
      reply = type(rank) == 'number' and redis.pcall('ZREMRANGEBYRANK', key, rank, rank) or rank
    end
    return reply
  end,
  SET = function(key, value)
    return redis.pcall('MSET', key, value)
  end,
}

local remains
local function run(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer.err and OTHERWISE[command] then
    answer = OTHERWISE[command](key, ...)
  end
  if type(answer) == 'table' and answer.err then
    remains = remains or ' (and what it had changed is not undone: ' .. command .. ' ' .. key .. ' is refused)'
  end
  return answer
end

local function undo_all()
  for index = #undo, 1, -1 do
    local entry = undo[index]
    undo[index] = nil
    if type(entry) == 'function' then
      entry(run)
    else
      local args = entry[3]
      for first = 1, math.max(#args, 1), 1000 do
        run(entry[1], entry[2], unpack(args, first, math.min(first + 999, #args)))
      end
    end
  end
end

undo_all()
local problem = text_of(reply)
local is_by_rights = string.find(problem, 'The user executing the script', 1, true)
  or string.find(problem, 'ACL failure', 1, true) or string.find(problem, 'NOPERM', 1, true)
if is_by_rights and not remains then
  -- Redis does not say which command on which key: the same is done, and undone, once more to see.
  local refused
  call = function(command, ...)
    refused = command .. ' ' .. tostring((...))
    return redis.call(command, ...)
  end
  at_end = nil
  local is_possible, again = pcall(work)
  if is_possible and at_end then
    is_possible = pcall(at_end)
  end
  if is_possible then
    return again
  end
  undo_all()
  problem = 'NOPERM no right to ' .. text_of(refused)
end
return redis.error_reply(problem .. (remains or ''))
