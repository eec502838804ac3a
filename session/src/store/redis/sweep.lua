-- Ends sessions that are over, and hands out what is to be told. KEYS[1] index, KEYS[2] lease table of the bucket, KEYS[3] its
-- sessions with a user, KEYS[4] list of ids, KEYS[5] guests who were seen, then for each member the session, if it names one, and
-- what it held, and at the end (if there is one) what the
-- database does not have yet; ARGV: slack in ms, lease in ms, how long what is handed out is held in
-- ms or '' when nothing is to be kept, how long what sessions held is kept in ms or '', then for each member itself and its place in
-- the list of ids or '' if it names no session. Members: a locator, or an entry (see entry.lua) with its mark.
-- Replies {'GRACE'} or {'OK', entry, 1 if it was handed out before else 0, ...}. Meaning: Spec::sweep; what is no session is
-- not touched.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local rid = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local gate = redis.call('HMGET', KEYS[2], 'rid', 'grace')
if gate[1] ~= rid then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'rid', rid, 'grace', string.format('%.0f', now + ARGV[2]))
  redis.call('PEXPIRE', KEYS[2], 3600000)
  return {'GRACE'}
end
-- Owners may know of later accesses than this server, and put their copies back.
if tonumber(gate[2]) > now then return {'GRACE'} end
local index, slack, hold = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3])
local answer = {'OK'}

local function hand_out(text, again)
  if hold then note(index, '!' .. text, now + hold, now, 'CH') end
  answer[#answer + 1] = text
  answer[#answer + 1] = again
end

local many = 5
for i = 5, #ARGV, 2 do
  local mark = string.sub(ARGV[i], 1, 1)
  many = many + ((mark == '!' or mark == '?') and 1 or 2)
end
local queue = KEYS[many + 1]

-- What waits in the queue the database has in an older state, which may last longer: a login may have made the times shorter
-- since. So it must hear of the end, or its copy would come back.
local function leave_end(locator)
  if queue and redis.call('ZREM', queue, locator) == 1 then unsaved(queue, '!' .. locator, now) end
end

-- Here and not afterwards: whoever sweeps may die in between, and nobody else would ever look. What cannot be struck off the last two,
-- since something else stands there, does not keep the session from ending.
local function strike(locator, id)
  redis.call('ZREM', index, locator)
  redis.call('ZREM', KEYS[3], locator)
  redis.pcall('ZREM', KEYS[4], id)
  redis.pcall('ZREM', KEYS[5], locator)
end

local function is_number(text)
  return text and string.match(text, '^%d+$')
end

local function look(locator, id, key, remains, due)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    strike(locator, id)
    leave_end(locator)
    return hand_out(string.format('%s|vanished||%.0f|', locator, due), 0)
  end
  local s = kind == 'hash' and redis.call('HMGET', key, 'c', 'x', 'la', 'i', 'u', 'st', 'e', 'sv', 'pa') or {}
  if s[6] then return redis.call('ZREM', index, locator) end
  local readable = is_number(s[1]) and is_number(s[2]) and is_number(s[3]) and is_number(s[4]) and is_number(s[7])
  local format = s[8] and (tonumber(s[8]) or -1) or 1
  if not readable or format < 0 or format > 2 then
    -- No session, or one of a newer version, which may mean something else by its fields: somebody else may know.
    return note(index, locator, now + 3600000, now, 'CH')
  end
  local ends = math.min(s[2], s[3] + s[4] + slack)
  if ends > now then return note(index, locator, ends, now, 'CH') end
  -- Of a child nothing is told.
  lay_out(key, remains, s[9] and '' or ARGV[4])
  strike(locator, id)
  leave_end(locator)
  if not s[9] then hand_out(entry(locator, s, slack, now), 0) end
end

local key = 6
for i = 5, #ARGV, 2 do
  local member = ARGV[i]
  local mark = string.sub(member, 1, 1)
  local told = mark == '!' or mark == '?'
  -- Another sweep may have come first, or a logout.
  local due = tonumber(redis.call('ZSCORE', index, member) or '')
  if due and due <= now then
    if told then
      redis.call('ZREM', index, member)
      -- Who ended it may have died before that, or somebody noted a use after it.
      if mark == '?' then redis.pcall('ZREM', KEYS[5], string.match(member, '^.([^|]*)')) end
      if not hold then redis.call('DEL', KEYS[key]) end
      hand_out(string.sub(member, 2), mark == '!' and 1 or 0)
    else
      look(member, ARGV[i + 1], KEYS[key], KEYS[key + 1], due)
    end
  end
  key = key + (told and 1 or 2)
end
return answer
