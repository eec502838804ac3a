-- Tells what was forgotten after an entry of the log. KEYS: head, log; ARGV: the life that the asker knows, the number of the last
-- entry it has read, how many it wants at most.
-- Replies {'NEWS', life, number of the newest entry, field, key, field, key, ...}, or {'ANEW', life, number of the newest entry}
-- when not all that came is there, or there is more than is worth reading.
-- It always writes, so that a primary that lost its replicas refuses it, where it was told to refuse writes then.
if not keep() then redis.call('PEXPIRE', KEYS[1], 604800000) end
local seq, last, most = tonumber(redis.call('HGET', KEYS[1], 'seq')), tonumber(ARGV[2]), tonumber(ARGV[3])
if ARGV[1] ~= life or last > seq or seq - last > 5 * most then return {'ANEW', life, seq} end
local reply = {'NEWS', life, seq}
if last == seq then return reply end
local next = string.format('%.0f-0', last + 1)
local entries = redis.call('XRANGE', KEYS[2], next, '+', 'COUNT', most)
if not entries[1] or entries[1][1] ~= next then return {'ANEW', life, seq} end
for _, entry in ipairs(entries) do
  reply[#reply + 1] = entry[2][1]
  reply[#reply + 1] = entry[2][2]
end
return reply
