-- Forgets attempts. KEYS[1] counter.
return redis.call('DEL', KEYS[1])
