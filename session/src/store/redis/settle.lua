-- Takes off the queue what the database has. KEYS[1] queue, then sessions; ARGV: for each of these its locator, and epoch, version
-- and latest access of what was brought there ('' as epoch: there was no session; '' as latest access: whatever it is);
-- then '-' and a member that goes in any case, or '+' and one that comes last from now on, ...
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local at = 1
for i = 2, #KEYS do
  local locator, epoch, version, access = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local s = redis.pcall('HMGET', KEYS[i], 'e', 'v', 'la')
  local same = s[1] == epoch and s[2] == version and (access == '' or s[3] == access)
  if epoch == '' then same = not s.err and not s[1] end
  if same then
    redis.call('ZREM', KEYS[1], locator)
  else
    -- It was changed again meanwhile: what is not there yet is not older than this.
    redis.call('ZADD', KEYS[1], 'XX', now, locator)
  end
end
for i = at, #ARGV, 2 do
  if ARGV[i] == '-' then
    redis.call('ZREM', KEYS[1], ARGV[i + 1])
  else
    redis.call('ZADD', KEYS[1], 'XX', now, ARGV[i + 1])
  end
end
return 1
