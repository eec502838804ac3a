-- Removes the lease of a node that no longer trusts it. KEYS[1] lease table; ARGV: node. Replies now in ms.
-- Meaning: LeaseTable::drop_node.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local row = redis.call('HMGET', KEYS[1], 'grace', 'n:' .. ARGV[1], 'c')
if row[2] == 'dead' then return now end
redis.call('HDEL', KEYS[1], 'n:' .. ARGV[1])
if not row[1] or tonumber(row[1]) <= now then return now end
redis.call('HDEL', KEYS[1], 'w:' .. ARGV[1])
redis.call('HSET', KEYS[1], 'd:' .. ARGV[1], 1)
if not row[3] then return now end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'w:' then return now end
end
redis.call('HSET', KEYS[1], 'grace', string.format('%.0f', now))
return now
