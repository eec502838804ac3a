-- Counts an attempt to log in. KEYS[1] counter; ARGV: how many may be made, for how long they count in ms.
-- Replies {how many are left, how long until they are forgotten in ms}; -1 left: locked.
local count = redis.call('INCR', KEYS[1])
local most = tonumber(ARGV[1])
-- The last one begins the time of the lock; what comes after it does not make it longer.
if count == 1 or count == most then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return {math.max(most - count, -1), redis.call('PTTL', KEYS[1])}
