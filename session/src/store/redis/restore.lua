-- Puts an owner's copy back after the server lost writes. KEYS[1] session, KEYS[2] lease table of its bucket, KEYS[3] index,
-- KEYS[4] list of ids, KEYS[5] those with a user, KEYS[6] (if there is one) what the database does not have yet;
-- ARGV: token, epoch, version, idle in ms, absolute deadline in ms, slack in ms, lease in ms, how long the key outlives the
-- session in ms, latest access in ms, locator, its place in the list of ids, field, value, ...
-- Replies 'OK', 'REFUSED' or 'REVOKED'. Meaning: Spec::restore.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'st')
if s[4] then return 'REVOKED' end
local same = s[1] == ARGV[1] and s[2] == ARGV[2]
local epoch, version = tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if not (same and tonumber(s[3]) < version) then
  -- Only while nobody can claim may a copy stand in for a record that is missing or older.
  local gate = redis.call('HMGET', KEYS[2], 'rid', 'grace')
  local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  if gate[1] ~= rid then
    -- The first this server hears: an owner may learn of the change by its own write, before its renewal.
    redis.call('DEL', KEYS[2])
    gate[2] = string.format('%.0f', now + ARGV[7])
    redis.call('HSET', KEYS[2], 'rid', rid, 'grace', gate[2])
    redis.call('PEXPIRE', KEYS[2], 3600000)
  end
  local grace = tonumber(gate[2]) > now
  if not grace or (s[2] and tonumber(s[2]) >= epoch) then return 'REFUSED' end
end
-- What is over comes back too, for the sweep to end it; but not what nobody looks for any more.
local left = math.min(ARGV[9] + ARGV[4] + ARGV[6], ARGV[5]) - now
if left + ARGV[8] <= 0 then return 'REFUSED' end
unsaved(KEYS[6], ARGV[10], now)
redis.call('DEL', KEYS[1])
for i = 12, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left + ARGV[8]))
note(KEYS[3], ARGV[10], now + left, now, 'CH')
list(KEYS[4], ARGV[11], ARGV[5] - now)
name(KEYS[5], KEYS[1], ARGV[10], ARGV[5] - now)
return 'OK'
