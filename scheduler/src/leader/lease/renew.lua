-- Extends the lease, or puts it back when it vanished. KEYS[1] lease; ARGV: value, ttl in ms.
-- Replies {1} extended, {2} put back, {0, holder} somebody else has it. Only sent by who still trusts its lease.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1}
end
if holder == false then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {2}
end
return {0, holder}
