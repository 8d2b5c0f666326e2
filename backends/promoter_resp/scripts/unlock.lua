-- Releases the leader lock if it is the holder's.
-- KEYS: lock
-- ARGV: holder, channel for announcements
-- Reply: 1 if it was released, 0 if the caller did not hold it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], KEYS[1]) -- optional: without permission to publish, followers wait for the lease
return 1
