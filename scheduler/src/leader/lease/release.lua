-- Gives the lease up. KEYS[1] lease; ARGV: value. Replies 1 when it was ours, else 0 and nothing is changed.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  return 1
end
return 0
