-- Counts the waiting members of another framework's set that are due before each of the given times, in one consistent read.
-- KEYS: the set
-- ARGV: the upper bounds of ZCOUNT
-- Reply: {count, …}
-- layout scores
local reply = {}
for i = 1, #ARGV do
  reply[i] = redis.call('ZCOUNT', KEYS[1], LOW, ARGV[i])
end
return reply
