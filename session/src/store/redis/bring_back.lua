-- Takes a session from the database into a server that does not have it; nobody owns it then. KEYS[1] session, KEYS[2] lease
-- table of its bucket, KEYS[3] index, KEYS[4] list of ids, KEYS[5] those with a user, KEYS[6] what the database does not have yet;
-- ARGV: idle in ms,
-- absolute deadline in ms, slack in ms, lease in ms, how long the key outlives the session in ms, latest access in ms, locator,
-- its place in the list of ids, field, value, ...
-- Replies {'OK'}, {'THERE'}, {'GRACE', ms}, {'ENDED'} or {'OVER'}. In the grace an owner may put back a newer copy.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local gate = redis.call('HMGET', KEYS[2], 'rid', 'grace')
if gate[1] ~= rid then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'rid', rid, 'grace', string.format('%.0f', now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[2], 3600000)
  return {'GRACE', tonumber(ARGV[4])}
end
if tonumber(gate[2]) > now then return {'GRACE', tonumber(gate[2]) - now} end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'THERE'} end
-- It was ended, and the database does not know yet.
if redis.call('ZSCORE', KEYS[6], '!' .. ARGV[7]) then return {'ENDED'} end
local left = math.min(ARGV[6] + ARGV[1] + ARGV[3], ARGV[2]) - now
-- The database may have an access that Redis had not noted, by a quarter of the slack (see write.lua): what a sweep may have
-- ended and told of does not come back.
if left <= 0 or ARGV[6] + ARGV[1] + ARGV[3] * 0.75 <= now then return {'OVER'} end
for i = 9, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left + ARGV[5]))
note(KEYS[3], ARGV[7], now + left, now, 'CH')
list(KEYS[4], ARGV[8], ARGV[2] - now)
name(KEYS[5], KEYS[1], ARGV[7], ARGV[2] - now)
return {'OK'}
