-- What the database does not have yet of a bucket's sessions: a sorted set by since when. Members: a locator (whatever its
-- session holds by then), or '!' and a locator (the session was ended). 'queue' is nil where nothing is kept elsewhere.
local function unsaved(queue, member, now)
  if queue then redis.call('ZADD', queue, 'NX', string.format('%.0f', now), member) end
end
