-- Forgets values: they go, and with them the right of whoever is loading them. KEYS: head, log, the value and the lease of each, then
-- the writers of each that is told of around a change; ARGV: how many entries the log has about, how many values there are, their
-- keys, then for each of those changes the word of who makes it, and how long loading is held up in ms if it never ends; 0 at its
-- end. Replies the number of the last entry.
local count = tonumber(ARGV[2])
local last = 2 + 2 * count
local seq = redis.call('HINCRBY', KEYS[1], 'seq', ARGV[2])
redis.call('DEL', unpack(KEYS, 3, last))
-- One entry for each, as those who read them expect it, also those of an earlier release.
for i = 1, count do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', seq - count + i), 'k', ARGV[2 + i])
end
keep()
if #KEYS == last then return seq end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i = 1, #KEYS - last do
  local key, word, hold = KEYS[last + i], ARGV[count + 2 * i + 1], ARGV[count + 2 * i + 2]
  -- Those that never ended hold up nobody for longer because others begin after them.
  local writers = redis.call('HGETALL', key)
  for j = 1, #writers, 2 do
    if tonumber(writers[j + 1]) <= now then redis.call('HDEL', key, writers[j]) end
  end
  if hold == '0' then
    redis.call('HDEL', key, word)
  else
    redis.call('HSET', key, word, string.format('%.0f', now + hold))
    redis.call('PEXPIRE', key, hold)
  end
end
return seq
