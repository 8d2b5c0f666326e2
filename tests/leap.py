"""Lets hours pass in one queue of a Redis-protocol server at once: whatever it holds happens so much earlier."""

from __future__ import annotations

from typing import Any

from promoter_core.spi import CHASQUIMQ

EARLIER = """
local ms = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if i == 2 and left ~= -2 then -- up to which due time jobs have been marked
    redis.call('SET', key, string.format('%.0f', redis.call('GET', key) - ms), 'KEEPTTL')
  end
  if left > 0 then redis.call('PEXPIRE', key, left - ms) end
end
local jobs = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #jobs, 2 do
  redis.call('ZADD', KEYS[1], string.format('%.0f', jobs[i + 1] - ms), jobs[i])
end
"""


async def leap(client: Any, queue: str, ms: int) -> None:
    k = CHASQUIMQ.keys_of(queue)
    others = [key async for key in client.scan_iter(k.prefix + b"*", count=1_000)]
    keys = [k.delayed, k.index, *(key for key in others if key not in (k.delayed, k.index))]
    await client.eval(EARLIER, len(keys), *keys, ms)
