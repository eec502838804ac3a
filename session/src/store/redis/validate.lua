-- Asks whether an owner's copy still counts; changes nothing. KEYS[1] session; ARGV: token, epoch, version.
-- Replies {'OK', last access in ms, now in ms}, {'GONE'}, {'REVOKED'}, {'FENCED'}, {'REGRESSED', version} or
-- {'CONFLICT', version}. Meaning: Spec::validate.
local s = redis.call('HMGET', KEYS[1], 'o', 'e', 'v', 'la', 'st')
if s[5] then return {'REVOKED'} end
if not s[2] then return {'GONE'} end
if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return {'FENCED'} end
local version, base = tonumber(s[3]), tonumber(ARGV[3])
if version < base then return {'REGRESSED', version} end
if version > base then return {'CONFLICT', version} end
local t = redis.call('TIME')
return {'OK', tonumber(s[4]), t[1] * 1000 + math.floor(t[2] / 1000)}
