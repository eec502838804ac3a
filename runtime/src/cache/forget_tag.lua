-- Forgets all values that carry a tag: those that are there carry an earlier version of it from now on. KEYS: head, log, tag;
-- ARGV: the tag, for how long its version is kept in ms, which is longer than any value lives or is loaded, how many entries the
-- log has about. Replies the number of the entry.
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
redis.call('SET', KEYS[3], string.format('%.0f', seq), 'PX', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], string.format('%.0f-0', seq), 't', ARGV[1])
keep()
return seq
