-- Takes sessions off the list of public ids, unless they are there. KEYS[1] list, then a session for each member; ARGV: the
-- members, first digits of the id and locator.
for i = 1, #ARGV do
  if redis.call('EXISTS', KEYS[i + 1]) == 0 or redis.call('HEXISTS', KEYS[i + 1], 'st') == 1 then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return 1
