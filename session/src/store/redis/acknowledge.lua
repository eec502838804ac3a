-- Forgets what somebody was told. KEYS[1] index, KEYS[2] what the session held; ARGV: the entry with its mark.
redis.call('DEL', KEYS[2])
return redis.call('ZREM', KEYS[1], ARGV[1])
