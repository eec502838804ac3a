-- The index of a bucket's sessions by when they may be over, as it was known when they began: a sorted set. The sweep looks
-- at the session itself, and puts it where it belongs by then; so no write and no touch has to. It outlives what it holds
-- by a week, so that it does not stay when nobody uses it any more.
local WEEK = 604800000
local function note(index, member, at, now, mode)
  if redis.call('ZADD', index, mode, string.format('%.0f', at), member) == 0 then return end
  if redis.call('PTTL', index) < at - now + WEEK then
    redis.call('PEXPIRE', index, string.format('%.0f', at - now + 2 * WEEK))
  end
end
-- The set of a bucket's sessions in which somebody is logged in, to count them. 'left' as below.
local function name(named, key, locator, left)
  if redis.call('HEXISTS', key, 'u') == 0 then return redis.call('ZREM', named, locator) end
  redis.call('ZADD', named, 0, locator)
  if redis.call('PTTL', named) < left + WEEK then
    redis.call('PEXPIRE', named, string.format('%.0f', left + 2 * WEEK))
  end
end
-- The list of a bucket's sessions by their public ids, for those who look for one and for those who read them all. 'left' is
-- how long the session lives at most, in ms. Returns 1 if it was not there, else 0.
local function list(ids, member, left)
  local new = redis.call('ZADD', ids, 0, member)
  if redis.call('PTTL', ids) < left + WEEK then
    redis.call('PEXPIRE', ids, string.format('%.0f', left + 2 * WEEK))
  end
  return new
end
