-- Looks who has the lease. KEYS[1] lease. Replies {} when nobody has, else {ms left (-1: for ever), who has it}.
local holder = redis.call('GET', KEYS[1])
if holder == false then return {} end
return {redis.call('PTTL', KEYS[1]), holder}
