-- Takes a session over. KEYS[1] session, KEYS[2] lease table of its bucket (fields: see lease/renew.lua), KEYS[3] index,
-- KEYS[4] list of ids, KEYS[5] those with a user; ARGV: token, node, lease in ms, known version or '', slack in ms, how long the key outlives the session
-- in ms, locator, its place in the list of ids, names of the keys that the caller has with a blank before and after each.
-- Replies {'OK', epoch, version, now, 1 if it was on no list of ids else 0[, fields]}, {'OWNED', owner token, remaining ms, now, fields}, {'GRACE', ms},
-- {'NONE'}, {'REVOKED'}, {'EXPIRED'} or {'UNREADABLE'[, name of the key that is missing]}. Meaning: Spec::claim; what is no
-- session, or is sealed under a key that the caller does not have, is not touched.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local gate = redis.call('HMGET', KEYS[2], 'rid', 'grace')
if gate[1] ~= rid then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'rid', rid, 'grace', string.format('%.0f', now + ARGV[3]))
  redis.call('PEXPIRE', KEYS[2], 3600000)
  return {'GRACE', tonumber(ARGV[3])}
end
if tonumber(gate[2]) > now then return {'GRACE', tonumber(gate[2]) - now} end
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'x', 'st', 'la', 'i', 'h0', 'sv', 'k')
if s[5] then return {'REVOKED'} end
if not s[2] then return {'NONE'} end
for _, i in ipairs({2, 3, 4, 6, 7}) do
  if not s[i] or not string.match(s[i], '^%d+$') then return {'UNREADABLE'} end
end
if not s[8] or #s[8] ~= 43 then return {'UNREADABLE'} end
if s[9] and tonumber(s[9]) ~= 1 and tonumber(s[9]) ~= 0 then
  if tonumber(s[9]) ~= 2 or not s[10] then return {'UNREADABLE'} end
  if not string.find(ARGV[9], ' ' .. s[10] .. ' ', 1, true) then return {'UNREADABLE', s[10]} end
end
local absolute = tonumber(s[4])
if absolute <= now or s[6] + s[7] + ARGV[5] <= now then return {'EXPIRED'} end
if s[1] and s[1] ~= '' then
  local owner = string.match(s[1], '^(.*)|[^|]*$')
  if owner ~= ARGV[2] then
    local deadline = tonumber(redis.call('HGET', KEYS[2], 'n:' .. owner) or '')
    if deadline and deadline > now then
      return {'OWNED', s[1], deadline - now, now, redis.call('HGETALL', KEYS[1])}
    end
  end
end
local epoch = string.format('%.0f', s[2] + 1)
redis.call('HSET', KEYS[1], 'o', ARGV[1], 'e', epoch, 'la', string.format('%.0f', now))
local left = math.min(s[7] + ARGV[5], absolute - now)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left + ARGV[6]))
-- A node of an older version may have begun it without.
note(KEYS[3], ARGV[7], now + left, now, 'NX')
local new = list(KEYS[4], ARGV[8], absolute - now)
-- Or a login may have ended before it was counted.
name(KEYS[5], KEYS[1], ARGV[7], absolute - now)
if s[3] == ARGV[4] then return {'OK', tonumber(epoch), tonumber(s[3]), now, new} end
return {'OK', tonumber(epoch), tonumber(s[3]), now, new, redis.call('HGETALL', KEYS[1])}
