-- Trims a full stream of what every consumer group has acknowledged; never of anything else.
-- KEYS: stream
-- Reply: how many entries were trimmed. Without a consumer group: none, for nobody has said that it is done with one.
-- An id is two numbers, compared as such; they are kept as text, for a sequence may be larger than a Lua number is exact.
local function parse(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return ms or id, sequence or '0'
end

local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

local function before(a_ms, a_sequence, b_ms, b_sequence)
  if a_ms ~= b_ms then return less(a_ms, b_ms) end
  return less(a_sequence, b_sequence)
end

local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
local first_ms, first_sequence -- the first entry that must stay
for _, fields in ipairs(groups) do
  local group = {}
  for i = 1, #fields, 2 do
    group[fields[i]] = fields[i + 1]
  end
  local ms, sequence = parse(group['last-delivered-id'])
  local number = tonumber(sequence)
  if number < 9e15 then -- delivered, and acknowledged unless it is pending: the one after it
    sequence = string.format('%.0f', number + 1)
  end
  if group.pending > 0 then -- the smaller of the two: after XGROUP SETID, what is pending may not be delivered yet
    local oldest_ms, oldest_sequence = parse(redis.call('XPENDING', KEYS[1], group.name)[2])
    if before(oldest_ms, oldest_sequence, ms, sequence) then
      ms, sequence = oldest_ms, oldest_sequence
    end
  end
  if not first_ms or before(ms, sequence, first_ms, first_sequence) then
    first_ms, first_sequence = ms, sequence
  end
end
if not first_ms then
  return 0
end
return redis.call('XTRIM', KEYS[1], 'MINID', first_ms .. '-' .. first_sequence)
