-- Announces queues to listening processes, in the same way as a new head.
-- KEYS: any key of one of the queues; it is not accessed
-- ARGV: for each queue its channel and the key to announce
-- Reply: 1. Optional: without permission to publish, other processes find the queues in their sweeps.
for i = 1, #ARGV, 2 do
  redis.pcall('PUBLISH', ARGV[i], ARGV[i + 1])
end
return 1
