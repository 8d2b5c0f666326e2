-- Counts the waiting members of another framework's set that are due before each of some times, all at one moment.
-- KEYS: the set
-- ARGV: the upper bounds of ZCOUNT
-- Reply: {how many, …}
-- layout scores
local reply = {}
for i = 1, #ARGV do
  reply[i] = redis.call('ZCOUNT', KEYS[1], LOW, ARGV[i])
end
return reply
