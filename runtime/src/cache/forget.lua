-- Forgets a value: it goes, and with it the right of whoever is loading it. KEYS: head, log, value, lease, writers; ARGV: the key,
-- `once`, or `begin` and `end` around a change, the word of who changes it, how long loading is held up in ms if it never ends,
-- how many entries the log has about. Replies the number of the entry.
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('DEL', KEYS[3], KEYS[4])
if ARGV[2] == 'begin' then
  redis.call('HSET', KEYS[5], ARGV[3], '1')
  redis.call('PEXPIRE', KEYS[5], ARGV[4])
elseif ARGV[2] == 'end' then
  redis.call('HDEL', KEYS[5], ARGV[3])
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], string.format('%.0f-0', seq), 'k', ARGV[1])
keep()
return seq
