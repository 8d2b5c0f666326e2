-- Ends a process's membership of a group and announces it.
-- KEYS: members
-- ARGV: member, channel
-- Reply: 1, or 0 if it was not a member.
local left = redis.call('ZREM', KEYS[1], ARGV[1])
if left == 1 then
  redis.pcall('PUBLISH', ARGV[2], KEYS[1])
end
return left
