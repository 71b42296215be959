-- include: trying
-- Changes that are not on the shortest way, and what comes last: events, then deletions, which cannot be undone. Not
-- undone are numbers of ids beyond the last, trimmed events, metrics, and `stalled`, which each check fills anew.

-- Note what undoes a change that was made: command, key and arguments.
local function undo_by(command, key, ...)
  undo[#undo + 1] = {command, key, {...}}
end

-- For `undo`: put back what a hash held in some of its fields; `stored` as HMGET replies.
local function put_fields_back(run, key, names, stored)
  local values, gone = {}, {}
  for index, name in ipairs(names) do
    if stored[index] then
      values[#values + 1], values[#values + 2] = name, stored[index]
    else
      gone[#gone + 1] = name
    end
  end
  if #values > 0 then
    run('HSET', key, unpack(values))
  end
  if #gone > 0 then
    run('HDEL', key, unpack(gone))
  end
end

-- For `undo`: put an element back to where it was in a list.
local function insert_at(run, key, index, member)
  local following = redis.pcall('LINDEX', key, index)
  if type(following) == 'string' then
    run('LINSERT', key, 'BEFORE', following, member)
  else
    run('RPUSH', key, member)
  end
end

-- Note that a hash was made, if none was there before: as many fields are new as were given.
local function note_new_hash(job_key, added, given)
  if added == given then
    undo_by('DEL', job_key)
  end
end

-- Note that a number was added to a counter.
local function note_count(key, number)
  undo[#undo + 1] = function(run)
    if run('INCRBY', key, -number) == 0 then
      run('DEL', key)
    end
  end
end

-- Emit an event: `at_end` writes it, when all else is done. Takes the key and the arguments of XADD.
local events = {}
local function emit(...)
  events[#events + 1] = {...}
end

-- Keys to delete when all else is done.
local doomed = {}

at_end = function()
  if #events > 0 then
    local ids = {}
    undo[#undo + 1] = function(run)
      for index, id in ipairs(ids) do
        run('XDEL', events[index][1], id)
      end
    end
    for index = 1, #events do
      ids[index] = call('XADD', unpack(events[index]))
    end
  end
  for first = 1, #doomed, 1000 do
    -- After a first deletion there is no way back: what cannot be deleted then belongs to no job any more.
    local delete = first == 1 and call or redis.pcall
    delete('DEL', unpack(doomed, first, math.min(first + 999, #doomed)))
  end
end

-- The state that `go_back_to` restores.
local function save()
  return {#undo, #events, #doomed}
end

local function go_back_to(saved)
  for index = #undo, saved[1] + 1, -1 do
    local entry = undo[index]
    if type(entry) == 'function' then
      entry(call)
    else
      call(entry[1], entry[2], unpack(entry[3]))
    end
    undo[index] = nil
  end
  for index = #events, saved[2] + 1, -1 do
    events[index] = nil
  end
  for index = #doomed, saved[3] + 1, -1 do
    doomed[index] = nil
  end
end

-- By command: a function that reads what the command replaces and returns a function (run, reply) that puts it back.
local befores
local function make_befores()
-- include: befores
  return befores_by_command
end

-- Make a change that is made rarely: reads first what it replaces. Variadic commands with one element only, but for
-- hashes and pushes.
local function change(command, key, ...)
  befores = befores or make_befores()
  local put_back = befores[command](key, ...)
  local reply = call(command, key, ...)
  undo[#undo + 1] = function(run)
    put_back(run, reply)
  end
  return reply
end
