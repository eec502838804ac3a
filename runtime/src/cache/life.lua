-- Goes on after head.lua, in scripts that ask what may be believed of what is here: `life` changes whenever this server may have
-- forgotten something, because it began anew, was emptied, or took the place of another one; `of` also when the region was cleared,
-- or a tag was forgotten: keys from the sixth on are tags.
local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not replid then return redis.error_reply('NOREPLID this server does not tell scripts its replication id') end
local life = birth .. '-' .. replid
local of = life .. '-' .. gen
-- What carries tags is also of their versions.
for i = 6, #KEYS do
  of = of .. '-' .. (redis.call('GET', KEYS[i]) or '0')
end
