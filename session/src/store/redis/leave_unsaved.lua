-- Lets another node empty the queue. KEYS[1] who empties it; ARGV: who asks.
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
