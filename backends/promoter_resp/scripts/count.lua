-- Counts the waiting jobs that are due up to each of the given times, in one consistent read.
-- KEYS: delayed
-- ARGV: the upper bounds of ZCOUNT
-- Reply: {count, …}
local reply = {}
for i = 1, #ARGV do
  reply[i] = redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[i])
end
return reply
