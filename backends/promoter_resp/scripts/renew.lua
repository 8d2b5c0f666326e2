-- Renews the leases of many queues whose locks the caller still holds, and reads the heads of their sets.
-- KEYS: lock, delayed, lock, delayed, … (of one slot, in a cluster)
-- ARGV: holder, ttl in ms
-- Reply: {now, state, next due, state, next due, …}. state: 2 if a job is due now; 1 if not; 0 if the caller does not hold
-- the lock, and nothing was done; -1 if a key could not be used. next due: nil without a job; the error's text after -1.
-- All writes come before the reads of the heads, so that client tracking remembers those reads. An error affects only its
-- own queue.
-- Locks are read with GETEX, which client tracking does not count as a read, so the server does not track keys that only
-- the leader writes. If GETEX is unavailable or not permitted, GET is used.
-- layout scores
local renewed, get = {}, 'GETEX'
for i = 1, #KEYS, 2 do
  local holder = redis.pcall(get, KEYS[i])
  if type(holder) == 'table' and holder.err and get ~= 'GET' and not string.find(holder.err, '^WRONGTYPE') then
    get = 'GET'
    holder = redis.pcall(get, KEYS[i])
  end
  if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
    renewed[i] = 1
  elseif type(holder) == 'table' and holder.err then
    renewed[i] = holder
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local reply = {now}
for i = 1, #KEYS, 2 do
  local state, next_due = renewed[i] or 0, false
  if state == 1 then
    local head = head_of(KEYS[i + 1])
    if head.err then
      state = head
    elseif head[2] then
      local score = due_of(head[2])
      state = score <= now and 2 or 1
      next_due = score <= MAX_DUE_MS and math.ceil(math.max(score, 0)) or false
    end
  end
  if type(state) == 'table' then
    state, next_due = -1, state.err
  end
  reply[i + 1], reply[i + 2] = state, next_due
end
return reply
