-- Forgets all values of a region: those that are there are of an earlier one from now on. KEYS: head, log; ARGV: how many entries
-- the log has about. Replies the number of the entry.
redis.call('HINCRBY', KEYS[1], 'gen', 1)
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', seq), 'c', '')
keep()
return seq
