-- Forgets what somebody was told. KEYS[1] index; ARGV: the entry with its mark.
return redis.call('ZREM', KEYS[1], ARGV[1])
