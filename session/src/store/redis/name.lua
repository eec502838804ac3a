-- Counts a session among those in which somebody is logged in, if somebody is. KEYS[1] session, KEYS[2] those; ARGV: locator, how
-- long the session lives at most in ms.
name(KEYS[2], KEYS[1], ARGV[1], tonumber(ARGV[2]))
return 1
