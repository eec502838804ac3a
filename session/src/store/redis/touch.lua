-- Notes an access. KEYS[1] session, KEYS[2] (if there is one) what the database does not have yet; ARGV: slack in ms, how long the
-- key outlives the session in ms, locator.
-- Not fenced: the latest access only grows.
local s = redis.call('HMGET', KEYS[1], 'e', 'la', 'i', 'x', 'st')
if not s[1] or s[5] then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(s[4]) <= now or s[2] + s[3] + ARGV[1] <= now then return 0 end
unsaved(KEYS[2], ARGV[3], now)
if tonumber(s[2]) < now then redis.call('HSET', KEYS[1], 'la', string.format('%.0f', now)) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(s[3] + ARGV[1], s[4] - now) + ARGV[2]))
return 1
