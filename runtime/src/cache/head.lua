-- Begins every script of a region. KEYS[1] its head: a hash of `birth`, `seq` and `gen`; KEYS[2] its log, a stream whose
-- entries are numbered by `seq` without a gap.
local head = redis.call('HMGET', KEYS[1], 'birth', 'gen')
local birth, gen = head[1], head[2]
if not birth then
  local t = redis.call('TIME')
  birth, gen = t[1] .. '.' .. t[2], '0'
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'birth', birth, 'gen', gen, 'seq', '0')
end
-- A region that nobody uses any more leaves nothing behind. Both get their time together, so that the log tells for both when
-- half of it is over; a log that is new has none yet. Replies whether they got it now.
local function keep()
  if redis.call('PTTL', KEYS[2]) > 302400000 then return false end
  redis.call('PEXPIRE', KEYS[1], 604800000)
  redis.call('PEXPIRE', KEYS[2], 604800000)
  return true
end
