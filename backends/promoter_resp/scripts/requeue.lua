-- Moves an entry of the DLQ to the stream.
-- KEYS: dlq, stream
-- ARGV: entry id, envelope, name ("" for none)
-- Reply: 1, or 0 when the entry is not there.
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return 0
end
if ARGV[3] == '' then
  redis.call('XADD', KEYS[2], '*', 'd', ARGV[2])
else
  redis.call('XADD', KEYS[2], '*', 'd', ARGV[2], 'n', ARGV[3])
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
