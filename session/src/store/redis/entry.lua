-- What there is to tell of a session that is over: '<locator>|<reason>|<began>|<ended>|=<user>', without '=' when nobody was
-- logged in. s: began, absolute deadline, latest access, idle, user. Meaning: Expired::of. In the index '?' before it says
-- that it was never handed out, '!' that it was, and that it may be handed out again from its score on.
local function entry(locator, s, slack, now)
  local absolute, used = tonumber(s[2]), s[3] + s[4]
  local reason, ended = '|idle|', used + slack
  if absolute <= math.min(used + slack, now) or now < used then reason, ended = '|absolute|', absolute end
  local user = s[5] and '=' .. s[5] or ''
  return locator .. reason .. s[1] .. '|' .. string.format('%.0f', math.min(ended, now)) .. '|' .. user
end
-- The same of one that somebody ends, which is possible although it cannot be read.
local function ended(locator, reason, began, user, now)
  began = string.match(began or '', '^%d+$') or ''
  local head = locator .. '|' .. reason .. '|' .. began .. '|' .. string.format('%.0f', now) .. '|'
  return head .. (user and '=' .. user or '')
end
