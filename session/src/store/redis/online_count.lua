-- Counts who was seen. KEYS[1] who was seen, by when; ARGV: since how long ago in ms.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return redis.call('ZCOUNT', KEYS[1], string.format('%.0f', now - ARGV[1]), '+inf')
