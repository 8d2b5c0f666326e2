-- A consistent look at a queue; changes nothing.
-- KEYS: lock, delayed, stream, events, dlq
-- Reply: {now, depth, due, next due or nil, stream length, events length, dlq length, holder or nil, PTTL}
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
}
