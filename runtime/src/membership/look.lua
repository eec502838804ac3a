-- Reads who is there, and writes nothing. KEYS[1] members. Replies {now, all fields}, as membership.heartbeat does.
local t = redis.call('TIME')
return {t[1] * 1000 + math.floor(t[2] / 1000), redis.call('HGETALL', KEYS[1])}
