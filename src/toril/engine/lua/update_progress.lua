-- Store a job's progress and emit it.
--
-- KEYS[1] the job (hash)   KEYS[2] events (stream)   KEYS[3] meta (hash)
-- ARGV[1] id   ARGV[2] progress (JSON)
-- Returns: 0, or -1 when there is no such job.
-- Events: progress.
-- Cost: O(1).
-- include: events
if call('EXISTS', KEYS[1]) == 0 then
  return -1
end
change('HSET', KEYS[1], 'progress', ARGV[2])
local max_events = ensure_max_events(KEYS[3], call('HGET', KEYS[3], 'opts.maxLenEvents'))
emit(KEYS[2], 'MAXLEN', '~', max_events, '*', 'event', 'progress', 'jobId', ARGV[1], 'data', ARGV[2])
return 0
