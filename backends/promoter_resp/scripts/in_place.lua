-- Moves due members of another framework's sorted set, if the caller holds the lock: one atomic, fenced step per tick.
-- A template: lines `-- layout NAME` are replaced by the layout's code, see in_place_rendering.py.
-- KEYS: lock, the set, target, events, dlq, then the layout's own keys
-- ARGV and reply: as in promote.lua. There is no cancel index, no marker and no trace context, and nothing is trimmed.
-- The read of the set's head comes last, after all writes, so that client tracking remembers that read.
-- No error may occur after the first job was added, because that job would move twice. So the removal is tested before.
local call, pcall, try = redis.call, redis.pcall, pcall
local type, tonumber, sub, find, format, floor, min = type, tonumber, string.sub, string.find, string.format, math.floor, math.min
local lock, source, target, events, dlq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lease, limit, cap = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local hold, write_events, want_jobs = ARGV[5] == '1', ARGV[6] == '1', ARGV[8] == '1'
local want_ids = write_events or want_jobs
local CHUNK, BATCH_BYTES = 256, 1024 * 1024 -- members and bytes
local MOST_KEPT = 1000 -- maximum members examined in a tick that must stay

-- include fence

-- layout try

local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local now_text = format('%.0f', now)
-- layout scores
local due = due_text(time)

local room = limit
-- layout room
local full = room < limit

-- `base` is the rank of the first member to examine. Added members leave the set immediately, by rank, as a run that
-- starts at `base`. A member that must stay increments `base`, and `offset`, the number of due members before it.
-- layout base
local offset, most_bytes = 0, BATCH_BYTES
-- layout start
local promoted, malformed, left, kept, told = 0, 0, 0, 0, 0
local failure, stop = nil, false -- the server's error, and whether the batch ends
local jobs, late = {}, nil
-- layout rescored
-- layout setup
local chunk, bytes, largest = 4, 0, 1
while room > 0 and bytes < BATCH_BYTES and kept < MOST_KEPT and not stop do
-- layout jump
  local wanted = min(offset > 0 and chunk or min(room, chunk), floor((most_bytes - bytes) / largest) + 1)
  local batch, step
  if WITH_SCORES or want_jobs or not late then
    batch, step = call('ZRANGEBYSCORE', source, LOW, due, 'WITHSCORES', 'LIMIT', offset, wanted), 2
  else
    batch, step = call('ZRANGEBYSCORE', source, LOW, due, 'LIMIT', offset, wanted), 1
  end
  if not late then -- as in promote.lua, in the unit of the scores
    local bounds = {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 60000}
    late = {}
    local oldest = batch[2] and due_of(batch[2]) or now
    for i = 1, #bounds do
      if oldest >= now - bounds[i] then break end
      local count = 0
      if #batch < wanted * 2 then
        while batch[2 * count + 2] and due_of(batch[2 * count + 2]) < now - bounds[i] do count = count + 1 end
      else
        count = call('ZCOUNT', source, LOW, '(' .. late_text(time, bounds[i]))
      end
      late[i] = count
    end
  end
  local run, moved = 0, 0 -- members added but still in the set, and all added members
  for i = 1, #batch, step do
    local member = batch[i]
-- layout score
    local size = #member
    local added, dead, skip, gone
-- layout body
    if dead then
      added = pcall('XADD', dlq, '*', 'source_id', source, 'reason', 'malformed', 'detail', dead, 'd', member)
    end
-- layout failed
    if size > largest then largest = size end
    if skip then
      if run > 0 then
-- layout take
        run = 0
      end
      base, offset, kept, bytes = base + 1, offset + 1, kept + 1, bytes + size
    else
      if type(added) == 'table' and added.err then failure, stop = added, true break end
      run, moved, bytes = run + 1, moved + 1, bytes + size
-- layout taken
      if dead then
        malformed = malformed + 1
      elseif gone then
        left = left + 1
      elseif want_ids then
-- layout id
        id = type(id) == 'string' and id or nil
        if write_events and id then
          local event = pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text)
          if event.err then write_events = false end
        end
        if want_jobs then
          jobs[told + 1], jobs[told + 2], jobs[told + 3] = id or false, '', floor(due_of(batch[i + 1]))
          jobs[told + 4] = type(added) == 'string' and added or ''
          told = told + 4
        end
      end
    end
    if bytes >= most_bytes or moved >= room then break end
  end
  if run > 0 then
-- layout take
  end
  promoted, room = promoted + moved, room - moved
  if #batch < wanted * step then break end
  chunk = min(chunk * 8, CHUNK)
end
-- layout stopped
if failure and promoted == 0 then
  return failure
end
promoted = promoted - malformed - left
if write_events and promoted > 0 then
  pcall('XTRIM', events, 'MAXLEN', '~', ARGV[7])
end

local held_back = offset
if full then
  held_back = call('ZCOUNT', source, LOW, due)
end
local depth = depth_of(source)
local head = head_of(source)
local next_due, lag = head[2] and due_of(head[2]), 0
if next_due and next_due <= MAX_DUE_MS then
  next_due = math.max(0, math.ceil(next_due))
  lag = math.max(0, now - next_due)
else
  next_due = false
end
late = late or {}
for i = 1, #late do
  late[i] = min(late[i], promoted)
end
return {promoted, depth, lag, next_due, now, malformed, held_back, jobs, late, {}}
