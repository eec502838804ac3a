-- Looks for a value, and else gives the right to load it to one who asks. KEYS: head, log, value, lease, writers; ARGV: a word
-- of the asker, how long the right lasts in ms, how long a value must live to count as there in ms.
-- Replies {'HELD', value, ms left}, {'LEASE'}, {'BUSY'} while another loads it, {'BLOCKED'} while it is being changed.
local held = redis.call('HMGET', KEYS[3], 'of', 'd')
local left = redis.call('PTTL', KEYS[3])
if held[1] == of and held[2] and left >= tonumber(ARGV[3]) then return {'HELD', held[2], left} end
if redis.call('EXISTS', KEYS[5]) == 1 then return {'BLOCKED'} end
local lease = redis.call('GET', KEYS[4])
if lease and string.sub(lease, 1, #of + 1) == of .. '/' then return {'BUSY'} end
redis.call('SET', KEYS[4], of .. '/' .. ARGV[1], 'PX', ARGV[2])
return {'LEASE'}
