-- Keeps what there is to tell of the end of a session that this server did not have. KEYS[1] index, KEYS[2] what it held; ARGV:
-- locator, reason, when it began in ms, its user after '=' or '', how long what it held is kept in ms or '', until when it could be
-- used in ms, field, value, ...
-- Replies 1, or 0 when that waits to be told already (it was sent again), or the session had run out of time: that was told.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(ARGV[6]) <= now then return 0 end
if ARGV[5] ~= '' then
  for i = 7, #ARGV, 1000 do
    redis.call('HSET', KEYS[2], unpack(ARGV, i, math.min(i + 999, #ARGV)))
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local user = ARGV[4] ~= '' and string.sub(ARGV[4], 2) or nil
note(KEYS[1], '?' .. ended(ARGV[1], ARGV[2], ARGV[3], user, now), now, now, 'CH')
return 1
