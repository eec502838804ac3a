-- Begins every script of a region. KEYS[1] its head: a hash of `birth`, `seq` and `gen`; KEYS[2] its log, a stream whose
-- entries are numbered by `seq` without a gap. What is here: `life` changes whenever this server may have forgotten
-- something, because it began anew, was emptied, or took the place of another one; `of` also when the region was cleared, or a
-- tag was forgotten: keys from the sixth on are tags.
local head = redis.call('HMGET', KEYS[1], 'birth', 'gen')
local birth, gen = head[1], head[2]
if not birth then
  local t = redis.call('TIME')
  birth, gen = t[1] .. '.' .. t[2], '0'
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'birth', birth, 'gen', gen, 'seq', '0')
end
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not replid then return redis.error_reply('NOREPLID this server does not tell scripts its replication id') end
local life = birth .. '-' .. replid
local of = life .. '-' .. gen
-- What carries tags is also of their versions.
for i = 6, #KEYS do
  of = of .. '-' .. (redis.call('GET', KEYS[i]) or '0')
end
-- A region that nobody uses any more leaves nothing behind.
local function keep()
  redis.call('PEXPIRE', KEYS[1], 604800000)
  redis.call('PEXPIRE', KEYS[2], 604800000)
end
