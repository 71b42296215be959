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

-- Write a hash or a set anew without these elements.
local function write_anew(key, read, write, step, ...)
  local stored, left_ms, gone, kept = redis.pcall(read, key), redis.pcall('PTTL', key), {}, {}
  if stored.err then
    return stored
  end
  for _, name in ipairs({...}) do
    gone[name] = true
  end
  for index = 1, #stored, step do
    if not gone[stored[index]] then
      kept[#kept + 1], kept[#kept + step] = stored[index], stored[index + step - 1]
    end
  end
  local reply = redis.pcall('UNLINK', key)
  for first = 1, type(reply) == 'number' and #kept or 0, 1000 do
    reply = redis.pcall(write, key, unpack(kept, first, math.min(first + 999, #kept)))
  end
  if type(left_ms) == 'number' and left_ms >= 0 then
    redis.pcall('PEXPIRE', key, left_ms)
  end
  return reply
end

-- Push to one end of a list and move to the other. What cannot be moved stays, in another order.
local function push_around(key, push, from, to, ...)
  local reply
  for _, element in ipairs({...}) do
    reply = redis.pcall(push, key, element)
    if type(reply) == 'number' then
      redis.pcall('LMOVE', key, key, from, to)
    end
  end
  return reply
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
    return push_around(key, 'LPUSH', 'LEFT', 'RIGHT', ...)
  end,
  LPUSH = function(key, ...)
    return push_around(key, 'RPUSH', 'RIGHT', 'LEFT', ...)
  end,
  INCRBY = function(key, number)
    return redis.pcall('DECRBY', key, -number)
  end,
  LINSERT = function(key, _, _, member)
    return redis.pcall('RPUSH', key, member)
  end,
  HSET = function(...)
    return redis.pcall('HMSET', ...)
  end,
  HDEL = function(key, ...)
    return write_anew(key, 'HGETALL', 'HSET', 2, ...)
  end,
  SREM = function(key, ...)
    return write_anew(key, 'SMEMBERS', 'SADD', 1, ...)
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
  SET = function(key, value, _, lifetime_ms)
    local reply = redis.pcall('MSET', key, value)
    if lifetime_ms then
      redis.pcall('PEXPIRE', key, lifetime_ms)
    end
    return reply
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
