-- Extends the lease of one node. KEYS[1] lease table; ARGV: node, ttl in ms.
-- Replies {server id, continuous 0|1, now in ms}, or {'EVICTED', now in ms}. Meaning: LeaseTable::renew.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not rid then return redis.error_reply('NORUNID this server does not tell scripts its run id') end
local field, ttl = 'n:' .. ARGV[1], tonumber(ARGV[2])
local row = redis.call('HMGET', KEYS[1], 'rid', field)
local deadline = row[2]
if row[1] ~= rid then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'rid', rid, 'grace', string.format('%.0f', now + ttl))
  if deadline == 'dead' then redis.call('HSET', KEYS[1], field, 'dead') end
end
if deadline == 'dead' then return {'EVICTED', now} end
local continuous = row[1] == rid and deadline and tonumber(deadline) > now
if not continuous then
  -- A node that begins sweeps the leases of the dead; it is rare enough to read the whole table.
  local all, gone = redis.call('HGETALL', KEYS[1]), {}
  for i = 1, #all, 2 do
    local until_ms = string.sub(all[i], 1, 2) == 'n:' and tonumber(all[i + 1])
    if until_ms and until_ms <= now and #gone < 1000 then gone[#gone + 1] = all[i] end
  end
  if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
end
redis.call('HSET', KEYS[1], field, string.format('%.0f', now + ttl))
-- A cluster that is switched off for good leaves nothing behind; a table that is gone only costs a grace.
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(20 * ttl, 3600000)))
return {rid, continuous and 1 or 0, now}
