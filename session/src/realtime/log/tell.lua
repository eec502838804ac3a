-- Adds an event to a stream. KEYS[1] stream; ARGV: name, 'd' (plain) or 's' (sealed), value, how many are kept, for how long in
-- ms.
local birth, number = newest(KEYS[1])
local id = birth .. '-' .. string.format('%.0f', number + 1)
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], id, 'n', ARGV[1], ARGV[2], ARGV[3], 'r', server)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
