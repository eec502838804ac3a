-- Gives a session that was put back a place among those that stand, if it has none. KEYS[1] roll; ARGV: locator, since when
-- in ms, how long the session lives at most in ms.
redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
local left = tonumber(ARGV[3]) + 86400000
if redis.call('PTTL', KEYS[1]) < left then redis.call('PEXPIRE', KEYS[1], text(left)) end
return 1
