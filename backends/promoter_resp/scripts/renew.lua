-- Starts the leases of many queues anew, of those whose lock is still ours.
-- KEYS: locks (of one slot, in a cluster)
-- ARGV: holder, ttl in ms
-- Reply: for each lock 1, or 0 when it is not ours and nothing was done.
local renewed = {}
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    renewed[i] = 1
  else
    renewed[i] = 0
  end
end
return renewed
