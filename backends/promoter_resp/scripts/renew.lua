-- Starts the leases of many queues anew, of those whose lock is still ours, and looks at the heads of their sets.
-- KEYS: lock, delayed, lock, delayed, … (of one slot, in a cluster)
-- ARGV: holder, ttl in ms
-- Reply: {now, state, next due, state, next due, …}. state: 2 when something is due now, 1 when nothing is, 0 when the
-- lock is not ours and nothing was done, -1 when a key could not be used. next due: nil when there is none; after -1 the
-- error's text.
-- All writes come before the reads of the heads, so that client tracking remembers those reads. One queue's error is
-- that queue's alone.
-- Locks are read by GETEX, which is no read to client tracking: the server need not remember, and at once forget again,
-- a key that the leader alone writes. Where that is not there or not permitted, they are read by GET.
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
