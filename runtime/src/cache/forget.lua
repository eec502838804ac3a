-- Forgets a value: it goes, and with it the right of whoever is loading it. KEYS: head, log, value, lease, writers; ARGV: the key,
-- `once`, or `begin` and `end` around a change, the word of who changes it, how long loading is held up in ms if it never ends,
-- how many entries the log has about. Replies the number of the entry.
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('DEL', KEYS[3], KEYS[4])
if ARGV[2] ~= 'once' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  -- Those that never ended hold up nobody for longer because others begin after them.
  local writers = redis.call('HGETALL', KEYS[5])
  for i = 1, #writers, 2 do
    if tonumber(writers[i + 1]) <= now then redis.call('HDEL', KEYS[5], writers[i]) end
  end
  if ARGV[2] == 'begin' then
    redis.call('HSET', KEYS[5], ARGV[3], string.format('%.0f', now + ARGV[4]))
    redis.call('PEXPIRE', KEYS[5], ARGV[4])
  else
    redis.call('HDEL', KEYS[5], ARGV[3])
  end
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], string.format('%.0f-0', seq), 'k', ARGV[1])
keep()
return seq
