-- Ends a session and leaves a tombstone. KEYS[1] session, KEYS[2] index, KEYS[3] list of ids; ARGV: how long the tombstone
-- stands in ms, locator, slack in ms if it ran out of time and is to be told, else '', its place in the list of ids.
-- Replies {'REVOKED', owner token or ''[, user]} or {'NONE'}. Meaning: Spec::revoke.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'st', 'c', 'x', 'la', 'i', 'u')
if not s[2] then return {'NONE'} end
if not s[4] then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  -- Before the first change: what cannot be read must not be left half ended.
  local told = ARGV[3] ~= '' and '?' .. entry(ARGV[2], {s[5], s[6], s[7], s[8], s[9]}, tonumber(ARGV[3]), now)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'st', 1, 'o', s[1] or '', 'e', s[2], 'v', s[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[4])
  if told then note(KEYS[2], told, now, now, 'CH') end
end
return {'REVOKED', s[1] or '', s[9]}
