-- Remove the children of a job that have not ended and that nobody works, and theirs in turn.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] how many jobs to remove at most
-- Returns: 1 done, 2 there is more (call again).
-- Events: removed, for each; waiting, of the job if it waits for nothing more.
-- Cost: O(children), O(n) for a child in a list.
-- include: uprooting
local options = {layout = ARGV[2], with_children = true, only_pending = true, budget = tonumber(ARGV[4]), begun = {}}
return uproot_children(ARGV[1], ARGV[3], options) and 1 or 2
