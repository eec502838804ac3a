-- What a session held stays under another key, without what opened it, until somebody was told of its end or 'left' ms are
-- over; '' keeps nothing.
local function lay_out(key, remains, left)
  if left == '' then return redis.call('DEL', key) end
  redis.call('RENAME', key, remains)
  redis.call('HDEL', remains, 'h0', 'h1', 'h1x', 'o', 'q', 'w')
  redis.call('PEXPIRE', remains, left)
end
