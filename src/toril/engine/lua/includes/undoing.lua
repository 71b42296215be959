-- The head of every script that writes. A call does all that it says or nothing: when Redis refuses one of its commands,
-- what the commands before it have changed is undone, and the refusal is raised (see concluding.lua).
local call = redis.call
-- What undoes the changes of this call, in their order: {command, key, arguments}, or a function.
local undo = {}
-- What is left to do at the end of the script, if anything (see changing.lua).
local at_end

