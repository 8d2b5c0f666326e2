-- Takes jobs out of the sorted set by id, each atomic for itself and against promotion.
-- KEYS: delayed
-- ARGV: prefix of the cancel index, of the dedup markers and of the trace contexts, then ids
-- Reply: for each id 1 when it was removed (its id is free again), 0 when nothing changed.
local reply = {}
for i = 4, #ARGV do
  local index, marker, trace = ARGV[1] .. ARGV[i], ARGV[2] .. ARGV[i], ARGV[3] .. ARGV[i]
  local member = redis.call('GET', index)
  local removed = 0
  if member then
    -- while the slot moves a key may be elsewhere: what DEL would be refused for is refused before anything is changed
    redis.call('EXISTS', index, marker, trace)
    if redis.call('ZREM', KEYS[1], member) == 1 then
      redis.call('DEL', index, marker, trace)
      removed = 1
    end
  end
  reply[#reply + 1] = removed
end
return reply
