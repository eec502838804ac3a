-- Reads what came after an event. KEYS[1] stream; ARGV: birth and number of the event, how many at most, for how long the stream is
-- kept in ms. Replies {'OK', number, name, 'd' or 's', value, ...}, or {'GAP', birth, number} when that is not all that came.
local birth, number = newest(KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local oldest = tonumber(string.match(first[1], '%-(%d+)$'))
local after = tonumber(ARGV[2])
if birth ~= ARGV[1] or after > number or after + 1 < oldest then return {'GAP', birth, number} end
local answer = {'OK'}
if after == number then return answer end
local from = birth .. '-' .. string.format('%.0f', after + 1)
for _, found in ipairs(redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[3])) do
  local fields = found[2]
  answer[#answer + 1] = tonumber(string.match(found[1], '%-(%d+)$'))
  answer[#answer + 1] = fields[2]
  answer[#answer + 1] = fields[3]
  answer[#answer + 1] = fields[4]
end
return answer
