-- Writes changes of many sessions, each behind the fence of its owner. KEYS: the sessions, and at the end (if there is one) what
-- the database does not have yet; ARGV: slack in ms, how long a key
-- outlives its session in ms, and a list in MessagePack with one entry for each session: {token, epoch, version before,
-- version after, id of the write, idle in ms, absolute deadline in ms, {field, value, ...} to set, {field, ...} to remove};
-- all are texts.
-- Replies {now, answer, answer, ...}; an answer is 0 (written), {'DUP', version}, {'GONE'}, {'REVOKED'}, {'FENCED'},
-- {'REGRESSED', version}, {'CONFLICT', version}, {'UNREADABLE', text} or {'UNKNOWN', text}. Meaning of each: Spec::write. The sessions have
-- nothing to do with each other: what stands under one key and is no session is no matter for the next.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slack, keep = tonumber(ARGV[1]), tonumber(ARGV[2])

local writes = cmsgpack.unpack(ARGV[3])
local queue = KEYS[#writes + 1]
local changed, half = false, false

local function write(key, w)
  local s = redis.call('HMGET', key, 'o', 'e', 'v', 'q', 'st', 'la')
  if s[5] then return {'REVOKED'} end
  if not s[2] then return {'GONE'} end
  if s[4] == w[5] then return {'DUP', tonumber(s[3])} end
  if s[1] ~= w[1] or s[2] ~= w[2] then return {'FENCED'} end
  if s[3] ~= w[3] then
    local version = tonumber(s[3])
    return {version < tonumber(w[3]) and 'REGRESSED' or 'CONFLICT', version}
  end
  -- Before the first change: what cannot be read must not be left half written.
  local since = now - s[6]
  local set, gone = w[8], w[9]
  unsaved(queue, string.match(key, ':s:([%w_%-]+)$'), now)
  if #set <= 1000 then
    redis.call('HSET', key, 'v', w[4], 'q', w[5], unpack(set))
    changed, half = true, true
  else
    redis.call('HSET', key, 'v', w[4], 'q', w[5])
    changed, half = true, true
    for i = 1, #set, 1000 do
      redis.call('HSET', key, unpack(set, i, math.min(i + 999, #set)))
    end
  end
  for i = 1, #gone, 1000 do
    redis.call('HDEL', key, unpack(gone, i, math.min(i + 999, #gone)))
  end
  -- The access is noted once per quarter of the slack: that is late enough to be rare, and early enough to be in time.
  if since * 4 >= slack or set[1] == 'x' or set[1] == 'i' then
    redis.call('HSET', key, 'la', string.format('%.0f', now))
    redis.call('PEXPIRE', key, string.format('%.0f', math.min(w[6] + slack, w[7] - now) + keep))
  end
  return 0
end

local answers = {now}
for i = 1, #writes do
  local key = KEYS[i]
  half = false
  local done, answer = pcall(write, key, writes[i])
  if not done then
    -- Redis 7 throws a table, older ones a text with a place before the error. What the server refuses to one session (no
    -- room, read only) it refuses to all, before the first change. A refusal after that leaves this one in the dark; one in the
    -- middle of it, by an ACL for example, leaves what nobody may take for a session.
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    text = string.match(text, '%-(%u%u+ .*)') or text
    if half or string.find(text, 'WRONGTYPE') or string.find(text, 'attempt to') then
      answer = {'UNREADABLE', text}
    elseif changed then
      answer = {'UNKNOWN', text}
    else
      return {err = text}
    end
  end
  answers[i + 1] = answer
end
return answers
