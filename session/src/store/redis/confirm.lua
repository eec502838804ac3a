-- Notes that a login was carried out. KEYS[1] roll; ARGV: locator. Replies how many places stand, -1 when this one is gone
-- or condemned. Meaning: Spec::confirm.
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '')
if not score or score < 0 then return -1 end
if score >= BEGUN then redis.call('ZADD', KEYS[1], text(score - BEGUN), ARGV[1]) end
return redis.call('ZCOUNT', KEYS[1], 0, '(' .. text(BEGUN))
