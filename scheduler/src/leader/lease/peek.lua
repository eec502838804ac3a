-- Looks who has the lease. KEYS[1] lease; ARGV: ttl in ms. Replies {} when nobody has, else {ms left, who has it}; one that
-- would last very long is cut short.
local holder = redis.call('GET', KEYS[1])
if holder == false then return {} end
-- A clock of Redis that was set back would keep a dead leader's lease for as long. Whoever lives renews it meanwhile, also
-- one whose time to live is some times as long as ours.
local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(ARGV[1])
if left < 0 or left > 10 * ttl then
  redis.call('PEXPIRE', KEYS[1], ttl)
  left = ttl
end
return {left, holder}
