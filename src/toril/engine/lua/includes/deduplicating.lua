-- include: storing
-- include: parents
-- One job at a time for each deduplication id. `de:<id>` holds the id of the job that has it, the winner; `dn:<id>`
-- the job that is to follow an active winner: name, data, opts, jid (its id), and pk, pd, pdk, rjk for links.
-- Options are BullMQ's: {id, ttl (ms), extend, replace, keepLastIfActive, reschedule}.

local function deduplication_key(queue, id)
  return queue.base .. 'de:' .. id
end

local function parked_key(queue, id)
  return queue.base .. 'dn:' .. id
end

-- Make a job the winner. With keepLastIfActive the key lives as long as the job.
local function give_deduplication(queue, options, job_id)
  local ttl_ms = not options.keepLastIfActive and number_of(options.ttl) or 0
  if ttl_ms > 0 then
    change('SET', deduplication_key(queue, options.id), job_id, 'PX', text_of(math.min(math.ceil(ttl_ms), 2 ^ 53)))
  else
    change('SET', deduplication_key(queue, options.id), job_id)
  end
end

-- `job_id` stays or is new, `other_id` was refused or removed.
local function emit_deduplicated(queue, options, job_id, other_id)
  if queue.layout == '5' then
    emit(queue.events, 'MAXLEN', '~', queue.max_events, '*',
      'event', 'debounced', 'jobId', job_id, 'debounceId', options.id)
  end
  emit(queue.events, 'MAXLEN', '~', queue.max_events, '*', 'event', 'deduplicated', 'jobId', job_id,
    'deduplicationId', options.id, 'deduplicatedJobId', other_id)
end

-- Whether the winner is gone although its key would have gone with it: then there is none.
local function is_stale(queue, options, winner)
  return call('EXISTS', queue.base .. winner) == 0
    and call('PTTL', deduplication_key(queue, options.id)) == -1
end

-- Keep what is to follow the winner, which is active; the latest counts.
local function park(queue, job, options, winner)
  local key = parked_key(queue, options.id)
  local fields = {'name', job.name, 'data', job.data, 'opts', job.opts, 'jid', job.id}
  local function add(field, value)
    if value then
      fields[#fields + 1], fields[#fields + 2] = field, value
    end
  end
  add('pk', job.parent_key)
  add('pd', job.parent)
  add('pdk', job.parent_key and job.parent_key .. ':dependencies')
  add('rjk', job.scheduler_id)
  change('DEL', key)
  change('HSET', key, unpack(fields))
  -- It may not run out while there is something to follow.
  change('PERSIST', deduplication_key(queue, options.id))
  emit_deduplicated(queue, options, winner, job.id)
end

-- Put a new job in the place of a delayed winner. Returns whether the winner was delayed.
local function replace_delayed(queue, job, options, winner)
  if change('ZREM', queue.delayed, winner) == 0 then
    return false
  end
  local parent = read_parent(queue.base .. winner)
  if parent then
    -- BullMQ leaves it waiting for a child that is gone.
    update_parent_guarded(queue.base, detach_child, parent, queue.base .. winner, queue.layout)
  end
  delete_jobs(queue.base, {winner})
  emit(queue.events, '*', 'event', 'removed', 'jobId', winner, 'prev', 'delayed')
  emit_deduplicated(queue, options, job.id, winner)
  change('DEL', parked_key(queue, options.id))
  if options.ttl and options.ttl > 0 and not options.extend and not options.keepLastIfActive then
    change('SET', deduplication_key(queue, options.id), job.id, 'KEEPTTL')
  else
    give_deduplication(queue, options, job.id)
  end
  return true
end

-- A delayed winner is due when the refused job would have been.
local function reschedule(queue, job, winner)
  if call('ZSCORE', queue.delayed, winner) then
    change('HSET', queue.base .. winner, 'delay', text_of(job.delay))
    change('ZREM', queue.delayed, winner)
    place_delayed(queue.delayed, queue.events, winner, tonumber(job.timestamp) + job.delay)
    queue.has_delayed = true
  end
end

-- Decide about a new job: nil = store it, it is the winner now; else it is refused, and this is the winner's id.
local function deduplicate(queue, job, options)
  job.deduplication_id = options.id
  local winner = call('GET', deduplication_key(queue, options.id))
  if not winner then
    give_deduplication(queue, options, job.id)
    return nil
  end
  if options.replace and replace_delayed(queue, job, options, winner) then
    return nil
  end
  if is_stale(queue, options, winner) then
    change('DEL', parked_key(queue, options.id))
    give_deduplication(queue, options, job.id)
    return nil
  end
  if options.keepLastIfActive and call('LPOS', queue.active, winner) then
    park(queue, job, options, winner)
  elseif not options.replace then
    if options.extend and options.ttl and options.ttl > 0 then
      give_deduplication(queue, options, winner)
    end
    emit_deduplicated(queue, options, winner, job.id)
    if options.reschedule then
      reschedule(queue, job, winner)
    end
  end
  return winner
end

-- The parked job as `store_job` takes it; nil when there is no id to give it, and it stays parked. Whoever parked it may
-- have been another library: an invalid value counts as not given.
local function read_parked(queue, id, now_ms)
  local stored = call('HMGET', parked_key(queue, id), 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'rjk', 'pdk')
  local is_readable, opts = pcall(cjson.decode, stored[3] or '{}')
  if not is_readable or type(opts) ~= 'table' then
    opts = {}
  end
  local number = try('INCR', queue.id)
  local own_number
  if number then
    own_number = text_of(number)
    note_count(queue.id, 1)
  end
  local job_id = stored[4] or own_number
  if job_id and call('EXISTS', queue.base .. job_id) == 1 then
    -- Its id came into use meanwhile: neither job is to be lost.
    job_id = own_number
  end
  if not job_id then
    return nil
  end
  local job = {
    id = job_id, name = stored[1] or '', data = stored[2] or '{}', opts = stored[3] or '{}', timestamp = text_of(now_ms),
    delay = math.max(0, number_of(opts.delay)), priority = number_of(opts.priority), is_lifo = opts.lifo == true,
    parent_key = stored[5] or nil, parent = stored[6] or nil, scheduler_id = stored[7] or nil, deduplication_id = id,
  }
  local options = type(opts.de) == 'table' and opts.de or {}
  return job, {id = id, ttl = options.ttl, keepLastIfActive = options.keepLastIfActive == true}, stored[8]
end

-- A job with a deduplication id has ended: free the id, unless it lives by its own time, and add what was parked.
local function end_deduplication(base, layout, deduplication_id, job_id, now_ms)
  local queue = queue_of(base)
  local key = deduplication_key(queue, deduplication_id)
  -- Keys of another type keep no job from its end.
  if try('GET', key) == job_id and call('PTTL', key) == -1 then
    change('DEL', key)
  end
  local parked = parked_key(queue, deduplication_id)
  if (try('HLEN', parked) or 0) == 0 then
    return
  end
  read_settings(queue, layout)
  local job, options, dependencies_key = read_parked(queue, deduplication_id, now_ms)
  if not job then
    return
  end
  give_deduplication(queue, options, job.id)
  store_job(queue, job)
  if dependencies_key then
    change('SADD', dependencies_key, base .. job.id)
  end
  change('DEL', parked)
  wake(queue)
end

-- A job with a deduplication id is removed: if it is the winner, the id is free, and nothing follows.
local function forget_deduplication(queue, job_id, deduplication_id)
  local key = deduplication_key(queue, deduplication_id)
  -- A key of another type keeps no job from going.
  if try('GET', key) == job_id then
    change('DEL', key)
    change('DEL', parked_key(queue, deduplication_id))
  end
end
