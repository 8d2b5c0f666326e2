-- Takes or renews the leader lock.
-- KEYS: lock, delayed
-- ARGV: holder, ttl in ms
-- Reply: {1} if the holder has the lock; {0, PTTL, other holder, lateness of the oldest job in ms} if another has it.
-- The second path only reads, so client tracking remembers the lock and a follower is notified when it is released.
-- layout scores
local holder = redis.call('GET', KEYS[1])
if not holder then
-- layout permission
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1}
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1}
end
local lag = 0
local head = head_of(KEYS[2]) -- another type of data is the leader's to report
if head[2] then
  local time = redis.call('TIME')
  local late = time[1] * 1000 + math.floor(time[2] / 1000) - math.ceil(due_of(head[2]))
  lag = math.min(math.max(late, 0), 2 ^ 53)
end
return {0, redis.call('PTTL', KEYS[1]), holder, lag}
