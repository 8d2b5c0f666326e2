-- Trims the entries of a full stream that every consumer group has acknowledged, and no others.
-- KEYS: stream
-- Reply: the number of trimmed entries; 0 without a consumer group, because no entry is known to be processed.
-- An id is two numbers, which are kept as text: a sequence number can exceed the exact range of Lua numbers.
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
  if number < 9e15 then -- the last delivered entry is acknowledged or pending, so continue with the next id
    sequence = string.format('%.0f', number + 1)
  end
  if group.pending > 0 then -- take the smaller id: after XGROUP SETID, a pending entry may come after the last delivered one
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
