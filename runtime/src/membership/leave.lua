-- Takes a node off the list, if the entry is still of this life. KEYS[1] members; ARGV: name, id. Replies 1 or 0.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.match(held, '^%d+|%d+|{"id":"([^"]+)"') == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
