-- Reads a roll. KEYS[1] roll. Replies {now in ms, locator, since when in ms, 'begun' | 'stands' | 'condemned', ...}.
-- Meaning: Spec::roll, but for the order.
local t = redis.call('TIME')
local places = {t[1] * 1000 + math.floor(t[2] / 1000)}
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
  local score = tonumber(all[i + 1])
  places[#places + 1] = all[i]
  places[#places + 1] = text(since(score))
  places[#places + 1] = progress(score)
end
return places
