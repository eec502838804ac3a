-- Gives a session up. KEYS[1] session; ARGV: token, epoch. Replies 1 if it was the caller's, else 0.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'st')
if s[3] or s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'o', '')
return 1
