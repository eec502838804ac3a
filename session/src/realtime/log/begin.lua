-- Begins a stream; its entry number 0 tells nothing. Ids are '<birth>-<number>': when the stream began in microseconds, which all
-- its entries share, and how many events there were. The last field of an entry, 'r', says which server added it.
local server = string.sub(string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'), 1, 16)
local function begin(key)
  local t = redis.call('TIME')
  local birth = string.format('%.0f', t[1] * 1000000 + t[2])
  redis.call('XADD', key, birth .. '-0', 'b', '1', 'r', server)
  return birth
end
-- Gives birth and number of the latest entry; begins the stream when there is none. When another server added that one, this
-- server has come after it and may lack what followed: it would give the same numbers to other events. So the stream begins
-- anew, and whoever was further, or as far, is told to read everything anew. Entries of an older version say nothing of a server.
local function newest(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not last then return begin(key), 0 end
  local fields = last[2]
  if #fields > 2 and fields[#fields - 1] == 'r' and fields[#fields] ~= server then
    redis.call('DEL', key)
    return begin(key), 0
  end
  local birth, number = string.match(last[1], '^(%d+)-(%d+)$')
  return birth, tonumber(number)
end
