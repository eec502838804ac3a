-- Reads the list of a bucket's sessions by their public ids. KEYS[1] list; ARGV: from, to (as ZRANGEBYLEX has them), how many
-- at most.
return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
