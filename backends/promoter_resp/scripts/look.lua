-- Scans part of the sorted set, in order, for information that indexes and markers lack: finds jobs by id, or marks the ids
-- of long overdue jobs as taken. The caller continues where the previous step ended, so that each step is short.
-- KEYS: delayed
-- ARGV: prefixes of the cancel index and the dedup markers; members to examine; score and member at which the previous
--       step ended ("" for the first); then the ids to find, or none to mark
-- Reply: {members examined, score and member to continue with ("" at the end), id, score, member, …}
local call = redis.call
local byte, sub, format = string.byte, string.sub, string.format
local delayed, index_prefix, marker_prefix = KEYS[1], ARGV[1], ARGV[2]
local limit, last_score, last = tonumber(ARGV[3]), ARGV[4], ARGV[5]
local STEP_BYTES, CHUNK = 1024 * 1024, 256
local MARKED_MS = 3540000 -- as in marker.lua
local MARKED_S, MARKER_S = 86400, 90000 -- marks outlive the key that stores how far the marking went
local OVERDUE = '3' -- as in marker.lua

local wanted, marking = {}, #ARGV == 5
for i = 6, #ARGV do
  wanted[ARGV[i]] = true
end

-- include id_of

-- Returns the id of a member. It follows the header and the name.
local function id_in(member)
  local n1, n2, n3, n4 = byte(member, 1, 4)
  return n4 and id_of(member, 5 + n1 + 256 * (n2 + 256 * (n3 + 256 * n4)))
end

local total, horizon
if marking then
  local time = call('TIME')
  horizon = format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - MARKED_MS)
  total = call('ZCOUNT', delayed, '-inf', '(' .. horizon)
else
  total = call('ZCARD', delayed)
end

-- Continue after the last member, not at its rank, because earlier jobs may have been added or removed. If that member has
-- moved, continue by its former score.
local rank = 0
if last_score ~= '' then
  local at = call('ZSCORE', delayed, last) == last_score and call('ZRANK', delayed, last)
  rank = at and at + 1 or call('ZCOUNT', delayed, '-inf', '(' .. last_score)
elseif marking then
  local marked = call('GET', index_prefix)
  rank = marked and call('ZCOUNT', delayed, '-inf', '(' .. marked) or 0
end

local reply = {0, '', ''}
local looked, bytes, chunk = 0, 0, 8
while rank < total and looked < limit and bytes < STEP_BYTES do
  local page = call('ZRANGE', delayed, rank, math.min(rank + chunk, rank + limit - looked, total) - 1, 'WITHSCORES')
  if #page == 0 then break end
  for i = 1, #page, 2 do
    local member = page[i]
    local id = id_in(member)
    bytes = bytes + #member
    if id and marking then
      local left = call('PTTL', index_prefix .. id) ~= -1 and call('PTTL', marker_prefix .. id)
      if left and left < MARKER_S * 1000 then
        call('SET', marker_prefix .. id, OVERDUE, 'EX', MARKER_S)
      end
    elseif id and wanted[id] then
      wanted[id] = nil
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, page[i + 1], member
    end
  end
  last, last_score = page[#page - 1], page[#page]
  looked, rank = looked + #page / 2, rank + #page / 2
  chunk = math.min(chunk * 4, CHUNK)
end
reply[1] = looked
if rank < total then
  reply[2], reply[3] = last_score, last
end
if marking then
  call('SET', index_prefix, rank < total and last_score or horizon, 'EX', MARKED_S)
end
return reply
