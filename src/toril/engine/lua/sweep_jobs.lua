-- Remove jobs of one place, a window a call: `drain` and `clean`. A parent that waits only for what is removed goes too
-- when it is in the same queue; elsewhere it runs.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)
-- ARGV[3] place (wait, paused, active, delayed, prioritized, waiting-children, completed or failed)
-- ARGV[4] only what is as old (ms), or '' for all   ARGV[5] how many entries to pass over   ARGV[6] how many to read
-- ARGV[7] 1: emit `cleaned`, else 0
-- Returns: {where the next window begins (-1 = there is none), id...}; ids are those removed.
-- Events: cleaned, when ARGV[7] is 1.
-- Cost: O(window), with O(log n) for sets.
-- include: sweeping
local queue = queue_of(ARGV[1])
trim_events(queue.events, queue.meta)
local place, skip, count = ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local removed, looked_at = sweep(queue, place, tonumber(ARGV[4]), skip, count, ARGV[2])
if ARGV[7] == '1' then
  emit(queue.events, '*', 'event', 'cleaned', 'count', text_of(#removed))
end
table.insert(removed, 1, looked_at < count and -1 or skip + looked_at - #removed)
return removed
