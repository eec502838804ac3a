-- Looks at sessions. KEYS: the sessions of one bucket, at the end its lease table; ARGV: slack in ms.
-- Replies an answer for each: 0 (gone), 1 (cannot be read), or {owner token or '', lease of the owner in ms, epoch, version,
-- began, latest access, absolute deadline, idle, bytes, user if there is one}. Meaning: Spec::look.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slack, leases = tonumber(ARGV[1]), KEYS[#KEYS]

local function look(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return 0 end
  if kind ~= 'hash' then return 1 end
  local s = redis.call('HMGET', key, 'o', 'e', 'v', 'c', 'la', 'x', 'i', 'u', 'st', 'sv')
  if s[9] then return 0 end
  for i = 2, 7 do
    if not s[i] or not string.match(s[i], '^%d+$') then return 1 end
  end
  local format = s[10] and (tonumber(s[10]) or -1) or 1
  if format < 0 or format > 2 then return 1 end
  if tonumber(s[6]) <= now or s[5] + s[7] + slack <= now then return 0 end
  local bytes = 0
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 2) == 'a:' then
      bytes = bytes + #field - 2 + redis.call('HSTRLEN', key, field)
    end
  end
  local lease = 0
  local node = s[1] and string.match(s[1], '^(.*)|[^|]*$')
  if node then
    local deadline = tonumber(redis.call('HGET', leases, 'n:' .. node) or '')
    if deadline and deadline > now then lease = deadline - now end
  end
  return {s[1] or '', lease, s[2], s[3], s[4], s[5], s[6], s[7], bytes, s[8]}
end

local answers = {}
for i = 1, #KEYS - 1 do answers[i] = look(KEYS[i]) end
return answers
