-- Says where a stream is, for somebody who listens from now on. KEYS[1] stream; ARGV: for how long it is kept in ms.
-- Replies {birth, number}.
local birth, number = newest(KEYS[1])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {birth, number}
