-- Writes one change behind the fence of the owner. KEYS[1] session; ARGV: token, epoch, version before, id of the write,
-- idle in ms, absolute deadline in ms, slack in ms, number of fields to set, field, value, ..., field to remove, ...
-- Replies {'OK', now}, {'DUP', version}, {'GONE'}, {'REVOKED'}, {'FENCED'}, {'REGRESSED', version} or
-- {'CONFLICT', version}. Meaning: Spec::write.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'q', 'st', 'la')
if s[5] then return {'REVOKED'} end
if not s[2] then return {'GONE'} end
if s[4] == ARGV[4] then return {'DUP', tonumber(s[3])} end
if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return {'FENCED'} end
if s[3] ~= ARGV[3] then
  local version = tonumber(s[3])
  return {version < tonumber(ARGV[3]) and 'REGRESSED' or 'CONFLICT', version}
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local last = 8 + 2 * ARGV[8]
if last <= 1008 then
  redis.call('HSET', KEYS[1], 'v', string.format('%.0f', ARGV[3] + 1), 'q', ARGV[4], unpack(ARGV, 9, last))
else
  redis.call('HSET', KEYS[1], 'v', string.format('%.0f', ARGV[3] + 1), 'q', ARGV[4])
  for i = 9, last, 1000 do
    redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, last)))
  end
end
for i = last + 1, #ARGV, 1000 do
  redis.call('HDEL', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
-- The access is noted once per quarter of the slack: that is late enough to be rare, and early enough to be in time.
if (now - s[6]) * 4 >= tonumber(ARGV[7]) or ARGV[9] == 'x' or ARGV[9] == 'i' then
  redis.call('HSET', KEYS[1], 'la', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(ARGV[5] + ARGV[7], ARGV[6] - now) + ARGV[7]))
end
return {'OK', now}
