-- Moves an entry of the DLQ to the target.
-- KEYS: dlq, target
-- ARGV: entry id, the command that adds it, and the command's arguments after the key
-- Reply: 1, or 0 if the entry does not exist.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 0
end
redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3))
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
