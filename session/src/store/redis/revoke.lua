-- Ends a session and leaves a tombstone. KEYS[1] session; ARGV: how long the tombstone stands, ms.
-- Replies {'REVOKED', owner token or ''} or {'NONE'}. Meaning: Spec::revoke.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'st')
if not s[2] then return {'NONE'} end
if not s[4] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'st', 1, 'o', s[1] or '', 'e', s[2], 'v', s[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return {'REVOKED', s[1] or ''}
