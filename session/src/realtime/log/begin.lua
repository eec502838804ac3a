-- Begins a stream; its entry number 0 tells nothing. Ids are '<birth>-<number>': when the stream began in microseconds, which all
-- its entries share, and how many events there were.
local function begin(key)
  local t = redis.call('TIME')
  local birth = string.format('%.0f', t[1] * 1000000 + t[2])
  redis.call('XADD', key, birth .. '-0', 'b', '1')
  return birth
end
-- Gives birth and number of the latest entry; begins the stream when there is none.
local function newest(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last then return begin(key), 0 end
  local birth, number = string.match(last[1], '^(%d+)-(%d+)$')
  return birth, tonumber(number)
end
