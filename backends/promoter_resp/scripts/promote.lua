-- Moves due jobs from the sorted set to the target, if the caller still holds the lock: one atomic, fenced step per tick.
-- A template: lines `-- layout NAME` are replaced by the layout's code, see rendering.py.
-- KEYS: lock, delayed, target, events, dlq
-- ARGV: holder, lease in ms to renew (0: leave it), limit, max length of the target, hold when full (1) or trim (0),
--       write events (1/0), max events length, reply with jobs (1/0), prefix of the cancel index,
--       prefix of the trace contexts ("" if they are not needed), prefixes of the dedup markers and of the keep keys,
--       reply with trace contexts (1/0)
-- Reply: {promoted, depth, lag, next due or nil, now, malformed, held back, {id or nil, name, score, stream id, …},
--         {jobs later than 1 ms, than 2 ms, …}, {index in the reply's jobs or -1, id, trace context, …}};
--         {-1} if the caller does not hold the lock.
-- The read of the set's head comes last, after all writes, so that client tracking remembers it and reports the next write
-- to the set. Only Lua's own string functions are used, because not every server has cmsgpack or struct.
local call, pcall = redis.call, redis.pcall
local byte, sub, format, floor, min = string.byte, string.sub, string.format, math.floor, math.min
-- layout target
local lock, delayed, stream, events, dlq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lease, limit, cap = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local hold, write_events, want_jobs = ARGV[5] == '1', ARGV[6] == '1', ARGV[8] == '1'
local index_prefix, trace_prefix = ARGV[9], ARGV[10]
local marker_prefix, keep_prefix, want_traces = ARGV[11], ARGV[12], ARGV[13] == '1' or want_jobs
local CHUNK, BATCH_BYTES = 256, 1024 * 1024 -- jobs and bytes
local GRACE_S = 3600 -- how long a dedup marker outlives the promotion
local KEPT_MS = 2592000000 -- as in marker.lua
local MAX_DUE_MS = 253402300799999 -- the end of the year 9999; later jobs are parked

-- include fence

local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local now_text = format('%.0f', now)

local room = limit
if hold then
  room = min(limit, cap - call(LENGTH, stream))
end
local full = room < limit

-- include id_of
local want_ids = write_events or want_jobs -- even of jobs without an index
local trace_of, trace_parts, trace_fields -- defined if the queue has trace contexts

-- Reads in chunks, so that large members are read a few at a time; a batch ends after BATCH_BYTES. Added jobs leave the set
-- immediately, by rank, because they are its head. Nothing else leaves it.
-- Cleanup and events never undo or fail a promotion: their errors (a migrating slot, a key of another type) are ignored.
-- Malformed members go to the DLQ.
-- There are few functions, because in a small tick creating one costs more than calling it.
-- `added` is a string or an error table. Reading `err` of either is cheaper than checking the type.
local promoted, malformed, told, failure = 0, 0, 0, nil
local index, jobs, traces, late = {}, {}, {}, nil
-- layout before
local chunk, bytes, largest = 4, 0, 1
local to_extend, to_mark, keeps = 0, 0, nil
while room > 0 and bytes < BATCH_BYTES and not failure do
  local wanted = min(room, chunk, floor((BATCH_BYTES - bytes) / largest) + 1)
  local batch, step
  if want_jobs or not late then
    batch, step = call('ZRANGEBYSCORE', delayed, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, wanted), 2
  else
    batch, step = call('ZRANGEBYSCORE', delayed, '-inf', now_text, 'LIMIT', 0, wanted), 1
  end
  if not late then
    -- The bare prefix is a key that exists while any job of the queue has a trace context.
    if batch[1] and trace_prefix and trace_prefix ~= '' and pcall('EXISTS', trace_prefix) == 1 then
      want_ids = true
-- include trace_parts
-- include trace_of
    end
    -- Count the jobs of the batch that are later than each bound. The batch is the set's head, so this is the set's count,
    -- at most the batch's size. If this chunk contains all due jobs, count by its scores. Otherwise use ZCOUNT, from the
    -- largest bound that the oldest job exceeds, down to one that the whole batch exceeds.
    local oldest = batch[2] and (tonumber(batch[2]) or -math.huge) or now
    late = oldest < now - 10 and {1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 60000}
      or oldest < now - 1 and {1, 2, 5} or {} -- bounds, and then counts
    local count, all = 0, #batch < wanted * step and #batch / 2 or nil
    local scored = all
    for i = #late, 1, -1 do
      local bound = now - late[i]
      if oldest >= bound then
        late[i] = nil
      else
        if scored then
          while count < all and (tonumber(batch[2 * count + 2]) or -math.huge) < bound do count = count + 1 end
        elseif count < (all or room) then
          count = call('ZCOUNT', delayed, '-inf', format('(%.0f', bound))
          if not all and i > 2 and count < room then
            all = min(room, call('ZCOUNT', delayed, '-inf', now_text))
          end
        end
        late[i] = count
      end
    end
    -- A dedup marker expires an hour after the due time. Extend the markers of jobs that are more than a minute late, and
    -- recreate those of jobs more than an hour late. The bare prefix exists if the queue has any markers.
    if late[14] and marker_prefix and call('EXISTS', marker_prefix) == 1 then
      to_extend, to_mark = late[14], call('ZCOUNT', delayed, '-inf', format('(%.0f', now - GRACE_S * 1000))
    end
  end
  local moved, indexed, before = 0, 0, promoted
  for i = 1, #batch, step do
    local member = batch[i]
    local size = #member
    local added, id, name, dead, trace, state, context
    local plain = false -- without an index, and with an id whose length is written as only `pack_envelope` writes it
-- layout move
    if added.err then failure = added break end
    moved, bytes = moved + 1, bytes + size
    if size > largest then largest = size end
    if id then
      if not plain then
        indexed = indexed + 1
        index[indexed] = index_prefix .. id
      end
      if trace then
        pcall('DEL', trace_prefix .. id)
        if want_traces then
          local n = #traces
          traces[n + 1], traces[n + 2], traces[n + 3] = want_jobs and told / 4 or -1, id, context
        end
      end
      if write_events then
        local event
        if trace then
          local fields = trace_fields(name, trace, state)
          event = pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text, unpack(fields))
        elseif name then
          event = pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text, 'n', name)
        else
          event = pcall('XADD', events, '*', 'e', 'waiting', 'id', id, 'ts', now_text)
        end
        if event.err then write_events = false end
      end
    end
    if dead then
      malformed = malformed + 1
    elseif want_jobs then
      jobs[told + 1], jobs[told + 2], jobs[told + 3], jobs[told + 4] = id or false, name or '', batch[i + 1], added
      told = told + 4
    end
    if bytes >= BATCH_BYTES then break end
  end
  if moved > 0 then
    call('ZREMRANGEBYRANK', delayed, 0, moved - 1)
    promoted, room = promoted + moved, room - moved
  end
  if indexed > 0 then
    local known = pcall('DEL', unpack(index, 1, indexed))
    local unique = known ~= 0 -- perhaps: a unique job has an index; or a marker by look.lua, which lasts
    -- The bare prefix is a key that exists while any job of the queue has a keep key, which stores how long its id stays
    -- taken from now on.
    if unique and keep_prefix and keeps == nil then
      keeps = pcall('EXISTS', keep_prefix) == 1
    end
    local kept = unique and keeps and {}
    for i = 1, kept and indexed or 0 do
      local id = sub(index[i], #index_prefix + 1)
      local keep = pcall('GETDEL', keep_prefix .. id)
      if keep and not keep.err and pcall('GET', marker_prefix .. id) ~= '1' then -- "1": of an earlier job, see marker.lua
        kept[i] = keep
      end
    end
    if unique and before < to_extend then
      for i = 1, indexed do
        local marker = marker_prefix .. sub(index[i], #index_prefix + 1)
        if before < to_mark then
          pcall('SET', marker, '1', 'EX', GRACE_S)
        else
          pcall('PEXPIRE', marker, GRACE_S * 1000)
        end
      end
    end
    for i = 1, kept and indexed or 0 do
      local keep = tonumber(kept[i])
      if keep then
        local id = sub(index[i], #index_prefix + 1)
        local marker = marker_prefix .. id
        -- A marker that expires later belongs to another waiting job with this id, so write the keep key back.
        local most = math.max(keep, GRACE_S * 1000) + 2000
        local left = pcall('PEXPIRE', marker, format('%.0f', most), 'GT') ~= 1 and tonumber(pcall('PTTL', marker))
        if left and left > most then
          pcall('SET', keep_prefix .. id, kept[i], 'PX', format('%.0f', left + KEPT_MS))
        elseif keep > 0 then
          pcall('SET', marker, '2', 'PX', format('%.0f', keep)) -- "2": set by a promotion
        else
          pcall('DEL', marker)
        end
      end
    end
  end
  if #batch < wanted * step then break end
  chunk = min(chunk * 8, CHUNK)
end
promoted = promoted - malformed
if failure and promoted + malformed == 0 then
  return failure
end
if promoted > 0 and not hold then
-- layout trim
end
if write_events and promoted > 0 then
  pcall('XTRIM', events, 'MAXLEN', '~', ARGV[7])
end

local held_back = 0
if full then
  held_back = call('ZCOUNT', delayed, '-inf', now_text)
end
local depth = call('ZCARD', delayed)
local head = call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local next_due, lag = head[2] and (head[2] == '-inf' and 0 or tonumber(head[2])), 0
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
return {promoted, depth, lag, next_due, now, malformed, held_back, jobs, late, traces}
