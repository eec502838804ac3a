-- Reports that a node lives, and reads who else does. KEYS[1] members; ARGV: name, id, ttl ms, view ms, record json.
-- A field is `<seen ms>|<view ms>|<record json>`: when the node last reported, and how old the list is that it knows.
-- Replies {'OK', now, all fields}, or {'HELD', now, field}: another life of the name is alive, nothing was written.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local seen, id = string.match(held, '^(%d+)|%d+|{"id":"([^"]+)"')
  if id and id ~= ARGV[2] and tonumber(seen) + tonumber(ARGV[3]) > now then return {'HELD', now, held} end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f|%s|%s', now, ARGV[4], ARGV[5]))
local all, old = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local seen = tonumber(string.match(all[i + 1], '^%d+') or '0')
  if seen < now - 86400000 and #old < 1000 then old[#old + 1] = all[i] end
end
if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
redis.call('PEXPIRE', KEYS[1], 172800000)
return {'OK', now, all}
