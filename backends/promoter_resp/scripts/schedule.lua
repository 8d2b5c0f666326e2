-- Schedules jobs. Each one is atomic.
-- KEYS: delayed
-- ARGV: prefixes of the cancel index and the dedup markers; channel for announcements; prefixes of the trace contexts and
--       the keep keys; then for each job: id, when ("+ms" from the server's clock, or absolute ms), flags (1 unique,
--       2 index, 4 traced, 8 kept), member; with flag 4 its trace context; with flag 8 for how many ms its id stays taken
--       after the promotion
-- Reply: for each job 1 if it was scheduled; 0 if a job with its id is waiting; 3 if its id is still taken by a promoted
--        job; 2 if look.lua must mark overdue jobs before this can be decided (nothing was done).
-- The cancel index has no time to live: every promoter deletes it with the job. So the job waits while the index exists and
-- its member is in the set. The dedup marker remembers the id after the promotion, and expires.
local byte, sub, format, call = string.byte, string.sub, string.format, redis.call
local delayed = KEYS[1]
local index_prefix, marker_prefix, channel, trace_prefix, keep_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local MAX_DUE_MS = 253402300799999 -- the end of the year 9999

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- include permission
-- include marker

local head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local head_due = head[2] and (head[2] == '-inf' and 0 or tonumber(head[2]) or MAX_DUE_MS)
local new_head = false

-- Whether long overdue jobs of another producer wait, whose index and marker may have expired.
local late = head_due and head_due < now - LATE_MS
local overdue = late
if overdue then
  local marked = call('GET', index_prefix) or '-inf' -- look.lua has marked all jobs due before this time
  overdue = call('ZCOUNT', delayed, marked, format('(%.0f', now - LATE_MS)) > 0
end

-- Returns 0 if a job with this id waits, 3 if only its marker is left, or an error. It writes in either case, so that
-- waiting for replicas also covers this answer.
local function taken(id)
  local marker = marker_prefix .. id
  local left, member = redis.pcall('PTTL', marker), redis.pcall('GET', index_prefix .. id)
  if type(left) == 'table' then return left end
  if type(member) == 'table' then return member end
  local waits = member and call('ZSCORE', delayed, member)
  local says = not waits and left > -2 and told(id, left)
  if left > 0 then
    call('PEXPIRE', marker, left)
  elseif left == -1 then
    local value = redis.pcall('GET', marker)
    if type(value) == 'table' then return value end
    call('SET', marker, value)
  elseif waits then
    call('SET', marker, keep_of(id) and WITH_KEEP or PLAIN, 'PX', GRACE_MS)
  else
    return nil
  end
  if waits then return 0 end
  if says == 'overdue' then return late and 0 or 3 end
  return says == 'not due yet' and not member and head_due and 0 or 3
end

-- Returns whether the id's index belongs to another waiting job, which has taken the id.
local function taken_by_another(id, member)
  local other = redis.pcall('GET', index_prefix .. id)
  local score = type(other) == 'string' and other ~= member and call('ZSCORE', delayed, other)
  if not score then return false end
  local value = redis.pcall('GET', marker_prefix .. id)
  if value then return type(value) == 'string' and value ~= PROMOTED end
  return (tonumber(score) or 0) < now - LATE_MS and redis.pcall('EXISTS', marker_prefix) == 1 -- its marker has expired
end

-- A promotion without a request for traces leaves the trace contexts of its jobs. A new job must not inherit one by its id.
local left_traces
local function forget_trace(id)
  if left_traces == nil then left_traces = redis.pcall('EXISTS', trace_prefix) == 1 end
  if left_traces then redis.pcall('DEL', trace_prefix .. id) end
end

-- A new job must not inherit a keep key that another promoter has left, unless it may belong to a waiting job.
local left_keeps
local function forget_keep(id, unique)
  if left_keeps == nil then left_keeps = redis.pcall('EXISTS', keep_prefix) == 1 end
  if left_keeps and redis.pcall('EXISTS', keep_prefix .. id) == 1 then
    local member = not unique and redis.pcall('GET', index_prefix .. id)
    if not (type(member) == 'string' and call('ZSCORE', delayed, member)) then redis.pcall('DEL', keep_prefix .. id) end
  end
end

-- Jobs without other keys are added together, except for the first: if the server refuses that one, it refuses all, and
-- nothing has been written.
local added, n, wrote = {}, 0, false
local function add()
  if n > 0 then
    call('ZADD', delayed, unpack(added, 1, n))
    n = 0
  end
end

local reply, failure = {}, nil
local i = 6
local due, score, last -- of the previous job; many jobs share them
while i <= #ARGV do
  local id, when, flags, member = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local unique, index, trace, keep = flags % 2 == 1, flags % 4 >= 2, nil, nil
  i = i + 4
  if flags % 8 >= 4 then trace, i = ARGV[i], i + 1 end
  if flags >= 8 then keep, i = tonumber(ARGV[i]), i + 1 end
  if unique then add() end -- one of those may have the same id
  local was = unique and taken(id)
  if type(was) == 'table' then
    failure = was
    break
  elseif was then
    reply[#reply + 1] = was
  elseif unique and overdue then
    reply[#reply + 1] = 2
  else
    if when ~= last then
      due, last = tonumber(when), when
      if byte(when, 1) == 43 then -- '+'
        due = now + tonumber(sub(when, 2))
      end
      due = math.min(math.max(due, now), MAX_DUE_MS) -- past times mean now
      score = format('%.0f', due)
    end
    if not wrote and (unique or index or trace) then
      -- While a slot migrates, a server refuses a key that is missing on it: access the first job's keys before any write.
      need('SET', index_prefix, '')
      call('EXISTS', index_prefix .. id)
      if trace then
        need('PTTL', index_prefix)
        call('EXISTS', trace_prefix .. id, trace_prefix)
      end
    end
    added[n + 1], added[n + 2] = score, member
    n = n + 2
    if unique or trace or not wrote then
      add()
      wrote = true
    end
    if not keep then forget_keep(id, unique) end
    local another = false -- a waiting job that has taken this id keeps its index and its trace context
    if unique then
      call('SET', index_prefix .. id, member)
    elseif index and not call('SET', index_prefix .. id, member, 'NX') then
      another = taken_by_another(id, member)
      if not another then call('SET', index_prefix .. id, member) end
    end
    if trace then
      put_trace(id, due, trace)
    elseif not another then
      forget_trace(id)
    end
    -- After the job itself, so that a refused write does not leave a marker without a job.
    if unique then take(id, due, keep) end
    if not head_due or due < head_due then
      head_due, new_head = due, true
    end
    reply[#reply + 1] = 1
  end
end
add()
if new_head then
  redis.pcall('PUBLISH', channel, delayed) -- optional: without permission to publish, the promoter polls
end
return failure or reply -- earlier jobs remain, so the head was announced first
