-- Lists a page of the waiting jobs, in promotion order or in reverse. Read-only.
-- KEYS: delayed
-- ARGV: prefixes of the cancel index, the dedup markers, the trace contexts and the keep keys; maximum jobs to return and
--       members to examine; reverse (1/0); details (1/0); ZCOUNT bound below which jobs are skipped or ""; ZCOUNT bound up
--       to which jobs are listed or ""; score and member of the last examined job or ""; the requested name, if any
-- Reply: {now, members examined, score and member to continue after ("" at the end), score, member, …}; with details
--        {…, score, member, unique (1/0), keep in ms or -1, trace context or "", …}
local call, byte, sub, format, min = redis.call, string.byte, string.sub, string.format, math.min
local delayed = KEYS[1]
local index_prefix, marker_prefix, trace_prefix, keep_prefix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local limit, look_at, reverse, details = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8] == '1'
local after_score, after, name = ARGV[11], ARGV[12], ARGV[13]
local STEP_BYTES, CHUNK, PIECE = 1024 * 1024, 256, 4096
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- include id_of
-- include marker
-- include waiting
-- include details

-- Returns whether a member comes before another of the same score, in byte order. Lua's `<` depends on the locale.
local function before(a, b)
  local at, size = 1, min(#a, #b)
  while at <= size and sub(a, at, at + PIECE - 1) == sub(b, at, at + PIECE - 1) do at = at + PIECE end
  while at <= size do
    local x, y = byte(a, at), byte(b, at)
    if x ~= y then return x < y end
    at = at + 1
  end
  return #a < #b
end

-- Returns how many members come before the position of the last examined one, and 1 if that is still in the set.
local function place()
  if tonumber(call('ZSCORE', delayed, after) or nil) == tonumber(after_score) then
    local rank = call('ZRANK', delayed, after)
    if rank then return rank, 1 end
  end
  local low = call('ZCOUNT', delayed, '-inf', '(' .. after_score)
  local high = call('ZCOUNT', delayed, '-inf', after_score)
  while low < high do -- binary search among members of the same score
    local middle = math.floor((low + high) / 2)
    if before(call('ZRANGE', delayed, middle, middle)[1], after) then low = middle + 1 else high = middle end
  end
  return low, 0
end

local first = ARGV[9] ~= '' and call('ZCOUNT', delayed, '-inf', ARGV[9]) or 0
local stop = ARGV[10] ~= '' and call('ZCOUNT', delayed, '-inf', ARGV[10]) or call('ZCARD', delayed)
if after_score ~= '' then
  local rank, stands = place()
  if reverse then stop = min(stop, rank) else first = math.max(first, rank + stands) end
end

local reply = {now, 0, '', ''}
local looked, found, bytes, largest, chunk = 0, 0, 0, 1, 4
local last, last_score
while first < stop and looked < look_at and found < limit and bytes < STEP_BYTES do
  local wanted = min(stop - first, look_at - looked, chunk, math.floor((STEP_BYTES - bytes) / largest) + 1)
  if not name then wanted = min(wanted, limit - found) end
  local from = reverse and stop - wanted or first
  local page = call('ZRANGE', delayed, from, from + wanted - 1, 'WITHSCORES')
  local i, step = 1, 2
  if reverse then i, step = #page - 1, -2 end
  if #page == 0 then break end
  while page[i] and found < limit and bytes < STEP_BYTES do
    local member, score = page[i], page[i + 1]
    local size = #member
    bytes, looked = bytes + size, looked + 1
    if size > largest then largest = size end
    if reverse then stop = stop - 1 else first = first + 1 end
    last, last_score = member, score
    local at = name and envelope_at(member)
    if not name or (at and sub(member, 5, at - 1) or '') == name then
      found = found + 1
      local n = #reply
      reply[n + 1], reply[n + 2] = score, member
      if details then
        reply[n + 3], reply[n + 4], reply[n + 5] = details_of(id_in(member), member, score)
      end
    end
    i = i + step
  end
  chunk = min(chunk * 8, CHUNK)
end
reply[2] = looked
if first < stop and last then
  reply[3], reply[4] = last_score, last
end
return reply
