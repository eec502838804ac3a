-- Forgets values: they go, and with them the right of whoever is loading them. KEYS: head, log, the value and the lease of each, then
-- the writers of each that is told of around a change; ARGV: how many entries the log has about, how many values there are, their
-- keys, then for each of those changes the word of who makes it, and how long loading is held up in ms if it never ends; 0 at its
-- end. Replies the number of the last entry, and for each change that could not be noted its place among them and why: that is told of
-- that one only, the value itself is forgotten all the same.
local count = tonumber(ARGV[2])
local last = 2 + 2 * count
local seq = redis.call('HINCRBY', KEYS[1], 'seq', ARGV[2])
redis.call('DEL', unpack(KEYS, 3, last))
-- One entry for each, as those who read them expect it, also those of an earlier release.
for i = 1, count do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', seq - count + i), 'k', ARGV[2 + i])
end
keep()
local reply = {seq}
if #KEYS == last then return reply end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function refused(said) return type(said) == 'table' and said.err end
-- Those that never ended hold up nobody for longer because others begin after them. Some of very many are enough, once a call, so that
-- one value cannot hold up the server; the rest goes with the next ones, or with its key.
local swept, why = {}, {}
local function sweep(key)
  local writers = redis.pcall('HRANDFIELD', key, 32, 'WITHVALUES')
  -- Redis 6.0 does not know that.
  if refused(writers) then writers = redis.pcall('HGETALL', key) end
  why[key] = refused(writers)
  if why[key] then return end
  for j = 1, #writers, 2 do
    if tonumber(writers[j + 1]) <= now then redis.call('HDEL', key, writers[j]) end
  end
end
for i = 1, #KEYS - last do
  local key, word, hold = KEYS[last + i], ARGV[count + 2 * i + 1], ARGV[count + 2 * i + 2]
  if not swept[key] then
    swept[key] = true
    sweep(key)
  end
  if why[key] then
    reply[#reply + 1] = i
    reply[#reply + 1] = why[key]
  elseif hold == '0' then
    redis.call('HDEL', key, word)
  else
    redis.call('HSET', key, word, string.format('%.0f', now + hold))
    redis.call('PEXPIRE', key, hold)
  end
end
return reply
