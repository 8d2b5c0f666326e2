-- Schedules jobs, each atomic for itself.
-- KEYS: delayed, stream
-- ARGV: prefix of the cancel index, of the dedup markers, channel for announcements, prefix of the trace contexts, then
--       for each job: id, when ("+ms" from the server's clock, or absolute ms), flags (1 unique, 2 index, 4 traced),
--       member, and with the flag 4 its trace context
-- Reply: for each job 1 when it was scheduled, 0 when its id had been taken.
local byte, sub, format = string.byte, string.sub, string.format
local delayed, stream = KEYS[1], KEYS[2]
local index_prefix, marker_prefix, channel, trace_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local GRACE_S = 3600 -- a dedup marker outlives the due time, so that a late repeat is a no-op

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local head_due = head[2] and tonumber(head[2])
local new_head = false

local reply = {}
local i = 5
while i <= #ARGV do
  local id, when, flags, member = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local unique, index, traced = flags % 2 == 1, flags % 4 >= 2, flags >= 4
  local trace = traced and ARGV[i + 4]
  i = i + (traced and 5 or 4)
  local due = tonumber(when)
  if byte(when, 1) == 43 then -- '+'
    due = now + tonumber(sub(when, 2))
  end
  local marker = marker_prefix .. id
  if unique and redis.call('EXISTS', marker) == 1 then
    reply[#reply + 1] = 0
  else
    local ttl = format('%.0f', math.max(0, math.ceil((due - now) / 1000)) + GRACE_S)
    if due <= now then
      local b1, b2, b3, b4 = byte(member, 1, 4)
      local start = 5 + b1 + 256 * (b2 + 256 * (b3 + 256 * b4))
      if start > 5 then
        redis.call('XADD', stream, '*', 'd', sub(member, start), 'n', sub(member, 5, start - 1))
      else
        redis.call('XADD', stream, '*', 'd', sub(member, start))
      end
    else
      redis.call('ZADD', delayed, format('%.0f', due), member)
      if index then
        redis.call('SET', index_prefix .. id, member, 'EX', ttl)
      end
      if trace then
        redis.call('SET', trace_prefix .. id, trace, 'EX', ttl)
        if redis.call('PTTL', trace_prefix) < ttl * 1000 then -- by this key a promotion sees that there are any
          redis.call('SET', trace_prefix, '1', 'EX', ttl)
        end
      end
      if not head_due or due < head_due then
        head_due, new_head = due, true
      end
    end
    -- after the job itself: a refused write above must not leave a marker that says the job is there
    if unique then
      redis.call('SET', marker, '1', 'EX', ttl)
    end
    reply[#reply + 1] = 1
  end
end
if new_head then
  redis.pcall('PUBLISH', channel, delayed) -- a courtesy: without permission to publish, the promoter polls
end
return reply
