-- Tells who may still show a session that was ended. KEYS[1] session, KEYS[2] lease table of its bucket; ARGV: lease in ms.
-- Replies {owner token or '', for how many ms}. Meaning: Spec::still_held.
local owner = redis.call('HGET', KEYS[1], 'o')
if not owner or owner == '' then return {'', 0} end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local node = string.match(owner, '^(.*)|[^|]*$')
local row = redis.call('HMGET', KEYS[2], 'rid', 'n:' .. (node or ''), 'grace')
-- Nothing is known here of leases that another server gave; after one time to live they are over.
if row[1] ~= rid then return {owner, tonumber(ARGV[1])} end
local left = math.max(tonumber(row[2] or '') or 0, tonumber(row[3] or '') or 0) - now
if left <= 0 then return {'', 0} end
return {owner, left}
