-- Takes the lease if nobody has it. KEYS[1] lease; ARGV: value, ttl in ms.
-- Replies {} when it is ours now, else {ms left (-1: for ever), who has it}. A bid whose answer was lost can be sent again.
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {}
end
return {redis.call('PTTL', KEYS[1]), holder}
