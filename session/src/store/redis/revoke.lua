-- Ends a session and leaves a tombstone. KEYS[1] session, KEYS[2] index, KEYS[3] list of ids, KEYS[4] lease table of its
-- bucket, KEYS[5] what it held, KEYS[6] those with a user, KEYS[7] (if there is one) what the database does not have yet; ARGV: how
-- long the tombstone stands in ms, locator, slack in ms if it ran out of time, else '',
-- its place in the list of ids, lease in ms, the reason unless it ran out of time, how long what it held is kept in ms or ''.
-- Replies {'REVOKED', owner token or ''[, user]} or {'NONE'}. Meaning: Spec::revoke.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'st', 'c', 'x', 'la', 'i', 'u', 'pa')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if not s[2] then
  if s[4] or ARGV[3] ~= '' then return {'NONE'} end
  unsaved(KEYS[7], '!' .. ARGV[2], now)
  local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local gate = redis.call('HMGET', KEYS[4], 'rid', 'grace')
  if gate[1] ~= rid then
    redis.call('DEL', KEYS[4])
    gate[2] = string.format('%.0f', now + ARGV[5])
    redis.call('HSET', KEYS[4], 'rid', rid, 'grace', gate[2])
    redis.call('PEXPIRE', KEYS[4], 3600000)
  end
  -- What this server lost, its owner may put back as long as the grace lasts (see restore.lua): the end must be there first.
  if tonumber(gate[2]) > now then
    redis.call('HSET', KEYS[1], 'st', 1, 'o', '', 'e', 0, 'v', 0)
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
  end
  return {'NONE'}
end
if not s[4] then
  -- Before the first change: what cannot be read must not be left half ended.
  local told
  if ARGV[3] ~= '' then
    told = entry(ARGV[2], {s[5], s[6], s[7], s[8], s[9]}, tonumber(ARGV[3]), now)
  else
    told = ended(ARGV[2], ARGV[6], s[5], s[9], now)
  end
  unsaved(KEYS[7], '!' .. ARGV[2], now)
  if KEYS[7] then redis.call('ZREM', KEYS[7], ARGV[2]) end
  -- Of a child nothing is told.
  lay_out(KEYS[1], KEYS[5], s[10] and '' or ARGV[7])
  redis.call('HSET', KEYS[1], 'st', 1, 'o', s[1] or '', 'e', s[2], 'v', s[3] or 0)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[4])
  redis.call('ZREM', KEYS[6], ARGV[2])
  if not s[10] then note(KEYS[2], '?' .. told, now, now, 'CH') end
end
return {'REVOKED', s[1] or '', s[9]}
