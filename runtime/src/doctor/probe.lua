-- Tries out the kinds of commands that the product uses, on a key of the doctor's own. KEYS[1] probe; ARGV: a word. Replies
-- what was read of it.
redis.call('TIME')
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'word', ARGV[1])
redis.call('HGETALL', KEYS[1])
redis.call('PEXPIRE', KEYS[1], 10000)
local read = redis.call('HGET', KEYS[1], 'word')
redis.call('HDEL', KEYS[1], 'word')
redis.call('ZADD', KEYS[1], 1, 'word')
redis.call('ZRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], read, 'PX', 10000)
read = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
return read
