-- Lists who was seen, the latest first. KEYS[1] who was seen, by when; ARGV: since how long ago in ms, how many at most, when
-- the last one of the page before was seen in ms or '', who that was. Replies {who, when in ms, ...}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local start = 0
if ARGV[3] ~= '' then
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[4]) or '')
  if score == tonumber(ARGV[3]) then
    start = redis.call('ZREVRANK', KEYS[1], ARGV[4]) + 1
  else
    start = redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[3], '+inf')
  end
end
local all = redis.call('ZREVRANGE', KEYS[1], start, start + ARGV[2] - 1, 'WITHSCORES')
local seen = {}
for i = 1, #all, 2 do
  local at = tonumber(all[i + 1])
  if at < now - ARGV[1] then break end
  seen[#seen + 1] = all[i]
  seen[#seen + 1] = string.format('%.0f', at)
end
return seen
