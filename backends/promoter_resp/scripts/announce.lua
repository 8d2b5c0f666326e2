-- Announces queues to the processes that listen, as a new head would.
-- KEYS: any key of one of them; it is not touched
-- ARGV: for each queue its channel and the key that is announced
-- Reply: 1. A courtesy: without permission to publish, the others find the queues by their sweeps.
for i = 1, #ARGV, 2 do
  redis.pcall('PUBLISH', ARGV[i], ARGV[i + 1])
end
return 1
