-- Remove the children of a job that have not ended and that no worker holds, and their children in turn.
--
-- KEYS[1] meta (hash); the other keys follow from the base
-- ARGV[1] base of the queue's keys, with colon   ARGV[2] layout of paused queues (5 or 6)   ARGV[3] id
-- ARGV[4] how many jobs to remove at most, and about how many children to read
-- ARGV[5] from where to go on, as answered by the call before; 0 = begin
-- Returns: from where to go on, '' when it is done.
-- Events: removed, for each; waiting, of the job if it waits for nothing more.
-- Cost: O(children read), O(n) for a child in a list; in all O(children), and O(n) a call for what a child has below it.
-- include: uprooting
local options = {layout = ARGV[2], with_children = true, only_pending = true, budget = tonumber(ARGV[4]), begun = {}}
return uproot_pending_children(ARGV[1], ARGV[3], options, ARGV[5], options.budget)
