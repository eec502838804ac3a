-- Keeps the list of ids as long as a session that lives longer since its login. KEYS[1] list of ids; ARGV: its place there, how
-- long it lives at most in ms.
return list(KEYS[1], ARGV[1], tonumber(ARGV[2]))
