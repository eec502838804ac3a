-- Stores a value that was loaded, if the right to load it is still there: every change takes it away, and so does a server that
-- may have forgotten a change. KEYS: head, log, value, lease; ARGV: the word of the asker, the value, how long it is kept in ms;
-- 0 only gives the right back. Replies 1 when it is stored, else 0.
if redis.call('GET', KEYS[4]) ~= of .. '/' .. ARGV[1] then return 0 end
redis.call('DEL', KEYS[4])
if ARGV[3] == '0' then return 0 end
redis.call('HSET', KEYS[3], 'of', of, 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
