-- Releases the leader lock if it is the holder's.
-- KEYS: lock
-- ARGV: holder, channel for announcements
-- Reply: 1 when it was released, 0 when it was not the holder's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], KEYS[1]) -- a courtesy: without permission to publish, followers wait for the lease
return 1
