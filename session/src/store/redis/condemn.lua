-- Says which sessions are to be ended. KEYS[1] roll; ARGV: '' for all, or how many of those that stand may stay; a locator
-- that is spared, or ''.
-- Replies {locator, since when in ms, ...} of all that are condemned. Meaning: Spec::condemn.
local chosen
if ARGV[1] == '' then
  chosen = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '+inf', 'WITHSCORES')
else
  local beyond = redis.call('ZCOUNT', KEYS[1], 0, '(' .. text(BEGUN)) - ARGV[1]
  if beyond > 0 then
    chosen = redis.call('ZRANGEBYSCORE', KEYS[1], 0, '(' .. text(BEGUN), 'WITHSCORES', 'LIMIT', 0, beyond)
  end
end
for i = 1, #(chosen or {}), 2 do
  if chosen[i] ~= ARGV[2] then
    redis.call('ZADD', KEYS[1], text(-since(tonumber(chosen[i + 1]))), chosen[i])
  end
end
local condemned = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(0', '-inf', 'WITHSCORES')
for i = 2, #condemned, 2 do
  condemned[i] = text(since(tonumber(condemned[i])))
end
return condemned
