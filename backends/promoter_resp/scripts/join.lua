-- Makes a process a member of a group for the time to live, and returns the members.
-- KEYS: members
-- ARGV: member, ttl in ms, channel on which a new member is announced
-- Reply: {ms until the first other membership expires, or -1, member, …}
local key, member, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now))
local new = redis.call('ZADD', key, string.format('%.0f', now + ttl), member)
if new == 1 then
  redis.pcall('PUBLISH', ARGV[3], key)
end

local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
redis.call('PEXPIRE', key, string.format('%.0f', (members[#members] - now) * 2)) -- outlives all memberships
local reply, first = {-1}, nil
for i = 1, #members, 2 do
  reply[#reply + 1] = members[i]
  local left = tonumber(members[i + 1]) - now
  if members[i] ~= member and (not first or left < first) then first = left end
end
reply[1] = first or -1
return reply
