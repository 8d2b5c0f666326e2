-- Takes jobs out of the sorted set by id, each atomic for itself and against promotion.
-- KEYS: delayed
-- ARGV: prefix of the cancel index, of the dedup markers and of the trace contexts, then ids
-- Reply: for each id 1 when it was removed (its id is free again), 0 when it is not there, 2 when it has no index but
--        may be in the set (nothing was done): then look.lua looks for it.
local call = redis.call
local delayed = KEYS[1]
local GRACE_MS = 3600000

local waiting = call('ZCARD', delayed)
local due -- how many are due, once that has been asked

-- Whether a job without an index may be in the set. A marker that ends within the hour says that it has been due.
local function may_wait(id)
  if waiting == 0 then return false end
  local left = call('PTTL', ARGV[2] .. id)
  if left < 0 or left > GRACE_MS then return true end
  if not due then
    local time = call('TIME')
    due = call('ZCOUNT', delayed, '-inf', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
  end
  return due > 0
end

local reply = {}
for i = 4, #ARGV do
  local index, marker, trace = ARGV[1] .. ARGV[i], ARGV[2] .. ARGV[i], ARGV[3] .. ARGV[i]
  local member = call('GET', index)
  if member then
    -- while the slot moves a key may be elsewhere: what DEL would be refused for is refused before anything is changed
    call('EXISTS', index, marker, trace)
  end
  if member and call('ZREM', delayed, member) == 1 then
    call('DEL', index, marker, trace)
    waiting, due = waiting - 1, nil
    if waiting == 0 then
      call('DEL', ARGV[2], ARGV[3]) -- the bare prefixes, which say that there are any such jobs
    end
    reply[#reply + 1] = 1
  else
    if member then
      call('DEL', index) -- somebody took the job out and left it
    end
    reply[#reply + 1] = may_wait(ARGV[i]) and 2 or 0
  end
end
return reply
