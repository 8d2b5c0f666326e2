-- Takes or renews the leader lock.
-- KEYS: lock
-- ARGV: holder, ttl in ms
-- Reply: {1} when it is the holder's now, {0, PTTL} when it is another's. The reads come last on that path, so that
-- client tracking remembers them and a follower is told when the lock goes.
local holder = redis.call('GET', KEYS[1])
if not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return {1}
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1}
end
return {0, redis.call('PTTL', KEYS[1])}
