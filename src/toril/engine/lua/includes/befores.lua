-- By command: how `change` reads what the command replaces, and puts it back.
local function hash_fields(key, names)
  local stored = call('HMGET', key, unpack(names))
  return function(run)
    put_fields_back(run, key, names, stored)
  end
end

local function every_second(...)
  local names, args = {}, {...}
  for index = 1, #args, 2 do
    names[#names + 1] = args[index]
  end
  return names
end

local READ = {
  string = {'GET', 'SET'}, hash = {'HGETALL', 'HSET'}, list = {'LRANGE', 'RPUSH', '0', '-1'}, set = {'SMEMBERS', 'SADD'},
  zset = {'ZRANGE', 'ZADD', '0', '-1', 'WITHSCORES'},
}

-- A key as a whole, with its lifetime.
local function whole_key(key)
  local way = READ[call('TYPE', key).ok]
  if not way then
    return function(run)
      run('DEL', key)
    end
  end
  local stored, left_ms = call(way[1], key, unpack(way, 3)), call('PTTL', key)
  if type(stored) == 'string' then
    stored = left_ms >= 0 and {stored, 'PX', left_ms} or {stored}
  elseif way[2] == 'ZADD' then
    for index = 1, #stored, 2 do
      stored[index], stored[index + 1] = stored[index + 1], stored[index]
    end
  end
  return function(run)
    for first = 1, #stored, 1000 do
      run(way[2], key, unpack(stored, first, math.min(first + 999, #stored)))
    end
    if left_ms >= 0 and way[2] ~= 'SET' then
      run('PEXPIRE', key, left_ms)
    end
  end
end

local function score(key, member)
  local stored = call('ZSCORE', key, member)
  return function(run)
    if stored then
      run('ZADD', key, stored, member)
    else
      run('ZREM', key, member)
    end
  end
end

local function lifetime(key)
  local left_ms = call('PTTL', key)
  return function(run)
    if left_ms >= 0 then
      run('PEXPIRE', key, left_ms)
    elseif left_ms == -1 then
      run('PERSIST', key)
    end
  end
end

-- What a command that replies how many elements it has added or removed is undone by, if it did.
local function by(command)
  return function(key, member)
    return function(run, reply)
      if reply == 1 then
        run(command, key, member)
      end
    end
  end
end

-- What was pushed is taken from the same end.
local function pop_by(command)
  return function(key, ...)
    local count = select('#', ...)
    return function(run)
      run(command, key, count)
    end
  end
end

local befores_by_command = {
  HSET = function(key, ...)
    return hash_fields(key, every_second(...))
  end,
  HSETNX = function(key, name)
    return hash_fields(key, {name})
  end,
  HDEL = function(key, ...)
    return hash_fields(key, {...})
  end,
  ZADD = function(key, _, member)
    return score(key, member)
  end,
  ZREM = score,
  SADD = by('SREM'),
  SREM = by('SADD'),
  LPUSH = pop_by('LPOP'),
  RPUSH = pop_by('RPOP'),
  SET = whole_key,
  DEL = whole_key,
  PERSIST = lifetime,
  PEXPIRE = lifetime,
  RENAME = function(key, other)
    return function(run)
      run('RENAME', other, key)
    end
  end,
  LREM = function(key, _, member)
    local index = call('LPOS', key, member)
    return function(run, reply)
      if reply > 0 then
        insert_at(run, key, index, member)
      end
    end
  end,
}
