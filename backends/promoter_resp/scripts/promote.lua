-- Moves due jobs from the sorted set to the stream, if the lock is still ours: one atomic, fenced step a tick.
-- KEYS: lock, delayed, stream, events, dlq
-- ARGV: holder, lease in ms to renew (0: leave it), limit, max stream length, hold when full (1) or trim (0),
--       write events (1/0), max events length, reply with jobs (1/0), prefix of the cancel index
-- Reply: {promoted, depth, lag, next due or nil, now, quarantined, held back, {id or nil, name, due, stream id, …}},
--        or {-1} when the lock is not ours.
-- Writes come first and the read of the set's head last, so that client tracking remembers that read and tells of the
-- next write to the set. Only string functions of plain Lua are used: not every server's Lua has cmsgpack or struct.
local byte, sub, format, floor = string.byte, string.sub, string.format, math.floor
local lock, delayed, stream, events, dlq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lease, limit, cap = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local hold, write_events, want_jobs = ARGV[5] == '1', ARGV[6] == '1', ARGV[8] == '1'
local index_prefix = ARGV[9]

if redis.call('GET', lock) ~= ARGV[1] then
  return {-1}
end
if lease > 0 then
  redis.call('PEXPIRE', lock, lease)
end

local time = redis.call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local now_text = format('%.0f', now)

local room = limit
if hold then
  room = math.min(limit, cap - redis.call('XLEN', stream))
end

-- Where the id is in a member whose msgpack envelope starts at `at`: the first element of an array, if it is a string.
-- The two leading ifs are nearly every job: an array of up to 15 elements, an id of up to 31 bytes.
local function id_range(member, at)
  local array, tag = byte(member, at, at + 1)
  if array >= 0x91 and array <= 0x9f then
    if tag and tag >= 0xa0 and tag <= 0xbf then
      return at + 2, at + 1 + tag - 0xa0
    end
    at = at + 1
  elseif array == 0xdc then
    at = at + 3
  elseif array == 0xdd then
    at = at + 5
  else
    return nil
  end
  local b1, b2, b3, b4
  tag, b1, b2, b3, b4 = byte(member, at, at + 4)
  if not tag then return nil end
  if tag >= 0xa0 and tag <= 0xbf then return at + 1, at + tag - 0xa0 end
  if tag == 0xd9 and b1 then return at + 2, at + 1 + b1 end
  if tag == 0xda and b2 then return at + 3, at + 2 + b1 * 256 + b2 end
  if tag == 0xdb and b4 then return at + 5, at + 4 + ((b1 * 256 + b2) * 256 + b3) * 256 + b4 end
  return nil
end

local promoted, quarantined, failure = 0, 0, nil
local index_keys, decoded = {}, 0
local ids, names, jobs, told = {}, {}, {}, 0
if room > 0 then
  local batch, step
  if want_jobs then
    batch, step = redis.call('ZRANGEBYSCORE', delayed, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, room), 2
  else
    batch, step = redis.call('ZRANGEBYSCORE', delayed, '-inf', now_text, 'LIMIT', 0, room), 1
  end
  for i = 1, #batch, step do
    local member = batch[i]
    local b1, b2, b3, b4 = byte(member, 1, 4)
    local start = b4 and 5 + b1 + 256 * (b2 + 256 * (b3 + 256 * b4))
    local length = #member
    local added
    if not start or start > length then
      local detail = not start and 'shorter than its header'
        or start == length + 1 and 'empty payload' or 'the name runs past the end'
      added = redis.pcall('XADD', dlq, '*', 'source_id', 'delayed', 'reason', 'malformed', 'detail', detail, 'd', member)
      if type(added) == 'table' then failure = added break end
      quarantined = quarantined + 1
    else
      local name = false
      if start == 5 then
        added = redis.pcall('XADD', stream, '*', 'd', sub(member, 5))
      else
        name = sub(member, 5, start - 1)
        added = redis.pcall('XADD', stream, '*', 'd', sub(member, start), 'n', name)
      end
      if type(added) == 'table' then failure = added break end
      promoted = promoted + 1
      local from, to = id_range(member, start)
      local id = false
      if from and to < length then -- an envelope has more elements behind the id
        id = sub(member, from, to)
        decoded = decoded + 1
        index_keys[decoded] = index_prefix .. id
        if write_events then
          ids[decoded], names[decoded] = id, name
        end
      end
      if want_jobs then
        local due = tonumber(batch[i + 1]) or 0
        if due < 0 or due > 9e15 then due = 0 end
        jobs[told + 1], jobs[told + 2], jobs[told + 3], jobs[told + 4] = id, name or '', floor(due), added
        told = told + 4
      end
    end
  end
end

-- What was added leaves the set: the batch is its head, so by rank. Nothing else does.
local moved = promoted + quarantined
if moved > 0 then
  redis.call('ZREMRANGEBYRANK', delayed, 0, moved - 1)
end
if failure and moved == 0 then
  return failure
end
if promoted > 0 and not hold then
  redis.pcall('XTRIM', stream, 'MAXLEN', '~', cap)
end

-- Cleanup and events never undo or fail a promotion: a refusal (a slot in migration, a key of another type) is let go.
for from = 1, decoded, 1000 do
  redis.pcall('DEL', unpack(index_keys, from, math.min(from + 999, decoded)))
end
if write_events and decoded > 0 then
  for i = 1, decoded do
    local name, added = names[i], nil
    if name then
      added = redis.pcall('XADD', events, '*', 'e', 'waiting', 'id', ids[i], 'ts', now_text, 'n', name)
    else
      added = redis.pcall('XADD', events, '*', 'e', 'waiting', 'id', ids[i], 'ts', now_text)
    end
    if type(added) == 'table' then break end
  end
  redis.pcall('XTRIM', events, 'MAXLEN', '~', ARGV[7])
end

local held_back = 0
if hold and room < limit then
  held_back = redis.call('ZCOUNT', delayed, '-inf', now_text)
end
local depth = redis.call('ZCARD', delayed)
local head = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local next_due, lag = false, 0
if head[2] then
  next_due = math.ceil(tonumber(head[2]))
  lag = math.max(0, now - next_due)
end
return {promoted, depth, lag, next_due, now, quarantined, held_back, jobs}
