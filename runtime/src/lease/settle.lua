-- Says that a node is done with a change of server, and whom it knew. KEYS[1] lease table;
-- ARGV: server id, node, awaited node, ... Replies {ms of grace left (0: open), now, server id}; -1 instead: the server
-- is not the one named, or the node has no lease of it. Meaning: LeaseTable::settle.
-- Fields: d:<node> settled, w:<node> awaited, c somebody with knowledge settled.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not rid then return redis.error_reply('NORUNID this server does not tell scripts its run id') end
local row = redis.call('HMGET', KEYS[1], 'rid', 'grace', 'n:' .. ARGV[2])
local deadline = tonumber(row[3] or '')
if rid ~= ARGV[1] or row[1] ~= rid or not deadline or deadline <= now then return {-1, now, rid} end
local grace = tonumber(row[2])
if grace <= now then return {0, now, rid} end
redis.call('HDEL', KEYS[1], 'w:' .. ARGV[2])
redis.call('HSET', KEYS[1], 'c', 1, 'd:' .. ARGV[2], 1)
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], 'd:' .. ARGV[i]) == 0 then
    redis.call('HSET', KEYS[1], 'w:' .. ARGV[i], 1)
  end
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'w:' then return {grace - now, now, rid} end
end
redis.call('HSET', KEYS[1], 'grace', string.format('%.0f', now))
return {0, now, rid}
