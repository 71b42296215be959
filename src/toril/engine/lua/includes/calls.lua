-- Where a script makes many calls: the function at hand, not looked up each time.
local call = redis.call
