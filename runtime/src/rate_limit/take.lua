-- Takes one of what may be done, by the generic cell rate algorithm. KEYS[1] when all of it may be done again, in µs by the
-- server's clock; ARGV: how long one of them takes to come back, how long all of them take, in µs.
-- Replies {0 or for how long to wait in µs, how many are left, when all are back in µs from now}.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local one, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
-- A limit that was larger, or a clock that was ahead, holds nobody up for longer than this one.
full = math.min(full, now + all)
local next = full + one
if next - now > all then
    return {next - now - all, 0, full - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return {0, math.floor((all - (next - now)) / one), next - now}
