-- Notes that a login is about to begin. KEYS[1] roll; ARGV: locator, most places or '', how long the session lives at most in
-- ms. Replies {'IN', since when in ms, 1 if it had a place already else 0}, {'FULL'} or {'CONDEMNED'}. Meaning: Spec::enroll.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '')
if score and score < 0 then return {'CONDEMNED'} end
if ARGV[2] ~= '' then
  local others = redis.call('ZCOUNT', KEYS[1], 0, '+inf') - (score and 1 or 0)
  if others >= tonumber(ARGV[2]) then return {'FULL'} end
end
local stands = score and score < BEGUN
redis.call('ZADD', KEYS[1], text(stands and now or now + BEGUN), ARGV[1])
-- It outlives what it lists, so that it does not stay when nobody uses it any more.
local left = tonumber(ARGV[3]) + 86400000
if redis.call('PTTL', KEYS[1]) < left then redis.call('PEXPIRE', KEYS[1], text(left)) end
return {'IN', now, score and 1 or 0}
