-- Returns the commands that the user may not run. Servers before Redis 7 cannot check.
-- KEYS: the set
-- ARGV: command and key, for each
-- Reply: {command and key as text, …}
local refused = {}
for i = 1, redis.acl_check_cmd and #ARGV or 0, 2 do
  local known, allowed = pcall(redis.acl_check_cmd, ARGV[i], ARGV[i + 1], '1', '1', '1')
  if known and not allowed then refused[#refused + 1] = ARGV[i] .. ' ' .. ARGV[i + 1] end
end
return refused
