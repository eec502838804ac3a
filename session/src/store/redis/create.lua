-- Puts a new session in. KEYS[1] session, KEYS[2] index, KEYS[3] list of ids, KEYS[4] those with a user, KEYS[5] (if there is one)
-- what the database does not have yet; ARGV: lifetime in ms, idle in ms, slack in ms,
-- how long the key outlives the session in ms, locator, its place in the list of ids, field, value, ... Replies {'CREATED', now in ms} or {'EXISTS'}.
-- Meaning: Spec::create.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS'} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lifetime = tonumber(ARGV[1])
local text = string.format('%.0f', now)
unsaved(KEYS[5], ARGV[5], now)
redis.call('HSET', KEYS[1], 'c', text, 'la', text, 'x', string.format('%.0f', now + lifetime))
for i = 7, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
local left = math.min(ARGV[2] + ARGV[3], lifetime)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left + ARGV[4]))
note(KEYS[2], ARGV[5], now + left, now, 'CH')
list(KEYS[3], ARGV[6], lifetime)
name(KEYS[4], KEYS[1], ARGV[5], lifetime)
-- Where nobody ever sweeps, the index must not grow for ever.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now - WEEK))
return {'CREATED', now}
