-- Leaves a note in the list of nodes, and takes away those that count no more. KEYS[1] members; ARGV: field, note json,
-- how long a note counts in ms, how many there may be. A field of a note begins with `!`, which no name of a node does.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all, notes, old = redis.call('HGETALL', KEYS[1]), 0, {}
for i = 1, #all, 2 do
  if string.sub(all[i], 1, 1) == '!' then
    local at = tonumber(string.match(all[i + 1], '^%d+') or '0')
    if at + tonumber(ARGV[3]) < now then old[#old + 1] = all[i] else notes = notes + 1 end
  end
end
if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
if notes >= tonumber(ARGV[4]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f|0|%s', now, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], 172800000)
return 1
