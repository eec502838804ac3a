-- Strikes places off a roll; replies {how many are left, now in ms}. KEYS[1] roll; ARGV: locator, since when in ms or '' for whatever is there, how far it is, ...
-- Meaning: Spec::strike.
for i = 1, #ARGV, 3 do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '')
  if score and (ARGV[i + 1] == '' or text(since(score)) == ARGV[i + 1] and progress(score) == ARGV[i + 2]) then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
local t = redis.call('TIME')
return {redis.call('ZCARD', KEYS[1]), t[1] * 1000 + math.floor(t[2] / 1000)}
