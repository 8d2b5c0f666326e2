-- Reads a consistent snapshot of a queue. Read-only.
-- KEYS: lock, delayed, target, events, dlq
-- Reply: {now, depth, due, next due or nil, target's length, events length, dlq length, holder or nil, PTTL,
--         {{group, pending, undelivered or nil, oldest pending id or nil, its consumer or nil}, …}, parked,
--         entries ever added to the target, or nil}
-- layout scores
-- layout target

local function groups()
  local found, added = {}, nil
  if LENGTH ~= 'XLEN' or redis.call('EXISTS', KEYS[3]) == 0 then return found end
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[3])) do
    local group = {}
    for i = 1, #fields, 2 do
      group[fields[i]] = fields[i + 1]
    end
    local oldest = group.pending > 0 and redis.call('XPENDING', KEYS[3], group.name, '-', '+', 1)[1]
    added = group.lag and group['entries-read'] and group['entries-read'] + group.lag or added
    found[#found + 1] = {group.name, group.pending, group.lag or false, oldest and oldest[1] or false,
      oldest and oldest[2] or false}
  end
  if not added and (not redis.acl_check_cmd or redis.acl_check_cmd('XINFO', 'STREAM', KEYS[3])) then
    local stream = redis.pcall('XINFO', 'STREAM', KEYS[3]) -- asked for only then: the answer holds two entries whole
    for i = 1, stream.err and 0 or #stream, 2 do
      if stream[i] == 'entries-added' then added = stream[i + 1] end
    end
  end
  return found, added
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found, added = groups()
local head = head_of(KEYS[2])
if head.err then return head end
local next_due = head[2] and due_of(head[2])
if next_due and next_due <= MAX_DUE_MS then
  next_due = math.max(0, math.ceil(next_due))
else
  next_due = false
end
-- layout length
return {
  now,
  redis.call('ZCOUNT', KEYS[2], LOW, '+inf'),
  redis.call('ZCOUNT', KEYS[2], LOW, due_text(time)),
  next_due,
  length,
  redis.call('XLEN', KEYS[4]),
  redis.call('XLEN', KEYS[5]),
  redis.call('GET', KEYS[1]),
  redis.call('PTTL', KEYS[1]),
  found,
  redis.call('ZCOUNT', KEYS[2], PARKED, '+inf'),
  added or false,
}
