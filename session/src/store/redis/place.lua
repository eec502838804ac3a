-- The roll of a user: a sorted set of sessions. The score says when the latest login began, ms, and how far it is: as it
-- is when the user is logged in, with BEGUN added while the login is under way, negative when the session is to be ended.
-- All of these are whole numbers below 2^53, which scores keep exactly.
local BEGUN = 4503599627370496
local function text(number)
  return string.format('%.0f', number)
end
local function since(score)
  if score >= BEGUN then return score - BEGUN end
  return math.abs(score)
end
local function progress(score)
  if score < 0 then return 'condemned' end
  return score < BEGUN and 'stands' or 'begun'
end
