-- Hands out what the database does not have yet. KEYS[1] queue, KEYS[2] who empties it; ARGV: who asks, for how long in ms
-- nobody else is handed anything, how old it must be in ms, how many at most.
-- Replies {1 if the caller may empty it else 0, how many there are, age of the oldest in ms, member, ...}. Nothing leaves the queue
-- before settle.lua says so: that there is one who empties it saves work, and keeps nothing safe.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local length = redis.call('ZCARD', KEYS[1])
if length == 0 then return {0, 0, 0} end
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local age = math.max(0, now - oldest[2])
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {0, length, age} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
local reply = {1, length, age}
local due = string.format('%.0f', now - ARGV[3])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', due, 'LIMIT', 0, ARGV[4])) do
  reply[#reply + 1] = member
end
return reply
