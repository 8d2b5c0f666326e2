-- Schedules jobs, each atomic for itself.
-- KEYS: delayed
-- ARGV: prefix of the cancel index, of the dedup markers, channel for announcements, prefix of the trace contexts, then
--       for each job: id, when ("+ms" from the server's clock, or absolute ms), flags (1 unique, 2 index, 4 traced),
--       member, and with the flag 4 its trace context
-- Reply: for each job 1 when it was scheduled, 0 when its id had been taken, 2 when look.lua has to mark overdue jobs
--        before that can be told (nothing was done).
-- The cancel index has no end: it goes with the job, whoever promotes it, so while it is there and its member is in the
-- set, the job waits. The dedup marker remembers the id after the promotion, and ends by itself.
local byte, sub, format, call = string.byte, string.sub, string.format, redis.call
local delayed = KEYS[1]
local index_prefix, marker_prefix, channel, trace_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local GRACE_S = 3600 -- a dedup marker outlives the due time, so that a late repeat is a no-op
local MARKED_MS = 3540000 -- jobs that are later than this may have lost a marker that ends an hour after the due time
local TRACE_S = 86400 -- trace contexts end, for not every promoter deletes them
local UNIQUE_S = 2592000 -- how long the bare marker prefix says that there are unique jobs
local MAX_DUE_MS = 253402300799999 -- the end of the year 9999

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local head_due = head[2] and (head[2] == '-inf' and 0 or tonumber(head[2]) or MAX_DUE_MS)
local new_head = false

-- Whether jobs wait whose ids neither an index nor a marker may tell any more: another producer's, long overdue.
local overdue = head_due and head_due < now - MARKED_MS
if overdue then
  local marked = call('GET', index_prefix) or '-inf' -- by look.lua: all that were due before
  overdue = call('ZCOUNT', delayed, marked, format('(%.0f', now - MARKED_MS)) > 0
end

-- Whether a job with this id waits, or its marker lives. The answer is a write, so that it is as durable as the job.
local function taken(id)
  local marker = marker_prefix .. id
  local left = call('PTTL', marker)
  if left > 0 then
    call('PEXPIRE', marker, left)
    return true
  end
  local ends = left == -1 or nil
  if left < -1 then
    local member = call('GET', index_prefix .. id)
    ends = member and call('ZSCORE', delayed, member)
  end
  if not ends then return false end
  if left == -1 then
    call('SET', marker, '1')
  else
    call('SET', marker, '1', 'EX', GRACE_S)
  end
  return true
end

-- A key that outlives the jobs that it tells of, written anew only when half of the time to spare is over.
local function flag(key, ms, spare_s)
  if call('PTTL', key) < ms + spare_s * 500 then
    call('SET', key, '1', 'PX', format('%.0f', ms + spare_s * 1000))
  end
end

-- A promotion that nobody asked for traces has left those of its jobs: a new job must not get one by its id.
local left_traces
local function forget_trace(id)
  if left_traces == nil then left_traces = redis.pcall('EXISTS', trace_prefix) == 1 end
  if left_traces then redis.pcall('DEL', trace_prefix .. id) end
end

-- The sorted set's part of jobs without more to it is written at once, but for the first one's: what is refused to it
-- is refused to the others, and then nothing of those has been written.
local added, n, wrote = {}, 0, false
local function add()
  if n > 0 then
    call('ZADD', delayed, unpack(added, 1, n))
    n = 0
  end
end

local reply = {}
local i = 5
local due, score, last -- of the job before; many have the same
while i <= #ARGV do
  local id, when, flags, member = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local unique, index, traced = flags % 2 == 1, flags % 4 >= 2, flags >= 4
  local trace = traced and ARGV[i + 4]
  i = i + (traced and 5 or 4)
  if unique then add() end -- it may have the id of one of those
  if unique and taken(id) then
    reply[#reply + 1] = 0
  elseif unique and overdue then
    reply[#reply + 1] = 2
  else
    if when ~= last then
      due, last = tonumber(when), when
      if byte(when, 1) == 43 then -- '+'
        due = now + tonumber(sub(when, 2))
      end
      due = math.min(math.max(due, now), MAX_DUE_MS) -- what is due already is due now
      score = format('%.0f', due)
    end
    added[n + 1], added[n + 2] = score, member
    n = n + 2
    if unique or traced or not wrote then
      add()
      wrote = true
    end
    if index or unique then
      call('SET', index_prefix .. id, member)
    end
    if trace then
      call('SET', trace_prefix .. id, trace, 'PX', format('%.0f', due - now + TRACE_S * 1000))
      flag(trace_prefix, due - now + TRACE_S * 1000, TRACE_S) -- by this key a promotion sees that there are any
    else
      forget_trace(id)
    end
    -- after the job itself: a refused write above must not leave a marker that says the job is there
    if unique then
      call('SET', marker_prefix .. id, '1', 'EX', format('%.0f', math.ceil((due - now) / 1000) + GRACE_S))
      flag(marker_prefix, due - now, UNIQUE_S) -- by this key a late promotion sees that there are any
    end
    if not head_due or due < head_due then
      head_due, new_head = due, true
    end
    reply[#reply + 1] = 1
  end
end
add()
if new_head then
  redis.pcall('PUBLISH', channel, delayed) -- a courtesy: without permission to publish, the promoter polls
end
return reply
