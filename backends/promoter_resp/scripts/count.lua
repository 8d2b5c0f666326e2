-- Counts the waiting jobs that are due up to each of some times, all at one moment.
-- KEYS: delayed
-- ARGV: the upper bounds of ZCOUNT
-- Reply: {how many, …}
local reply = {}
for i = 1, #ARGV do
  reply[i] = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[i])
end
return reply
