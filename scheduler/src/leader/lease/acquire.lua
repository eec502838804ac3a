-- Takes the lease if nobody has it. KEYS[1] lease; ARGV: value, ttl in ms.
-- Replies {} when it is ours now, else {ms left, who has it}; one that would last very long is cut short. A bid whose answer was lost can be sent again.
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {}
end
-- A clock of Redis that was set back would keep a dead leader's lease for as long. Whoever lives renews it meanwhile, also
-- one whose time to live is some times as long as ours.
local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])
if left < 0 or left > 10 * ttl then
  redis.call('PEXPIRE', KEYS[1], ttl)
  left = ttl
end
return {left, holder}
