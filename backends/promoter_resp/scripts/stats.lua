-- A consistent look at a queue; changes nothing.
-- KEYS: lock, delayed, stream, events, dlq
-- Reply: {now, depth, due, next due or nil, stream length, events length, dlq length, holder or nil, PTTL,
--         {{group, pending, undelivered or nil, oldest pending id or nil, its consumer or nil}, …}}
local function groups()
  local found = {}
  if redis.call('EXISTS', KEYS[3]) == 0 then return found end
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[3])) do
    local group = {}
    for i = 1, #fields, 2 do
      group[fields[i]] = fields[i + 1]
    end
    local oldest = redis.call('XPENDING', KEYS[3], group.name, '-', '+', 1)[1]
    found[#found + 1] = {group.name, group.pending, group.lag or false, oldest and oldest[1] or false,
      oldest and oldest[2] or false}
  end
  return found
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {
  now,
  redis.call('ZCARD', KEYS[2]),
  redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', now)),
  head[2] and math.ceil(tonumber(head[2])) or false,
  redis.call('XLEN', KEYS[3]),
  redis.call('XLEN', KEYS[4]),
  redis.call('XLEN', KEYS[5]),
  redis.call('GET', KEYS[1]),
  redis.call('PTTL', KEYS[1]),
  groups(),
}
