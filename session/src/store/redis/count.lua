-- Counts the sessions of a bucket. KEYS[1] list of public ids.
return redis.call('ZCARD', KEYS[1])
