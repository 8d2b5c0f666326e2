"""The sequence of commands of ChasquiMQ's promoter, as seen on the wire, for comparison in the same run.

Lock script, promote script with XADD MAXLEN and ZREM a member, one DEL a batch, one awaited XADD an event.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
from redis.asyncio import Redis

from promoter_bench.measures import plain_producer as produce
from promoter_bench.store import percentiles
from promoter_core.spi import CHASQUIMQ, PromotionRequest

LOCK = """
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) return 1 end
if held then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

PROMOTE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local batch = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
local payloads = {}
for i, member in ipairs(batch) do
  local a, b, c, d = string.byte(member, 1, 4)
  local length = a + b * 256 + c * 65536 + d * 16777216
  local payload = string.sub(member, 5 + length)
  if length > 0 then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'd', payload, 'n', string.sub(member, 5, 4 + length))
  else
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'd', payload)
  end
  redis.call('ZREM', KEYS[1], member)
  payloads[i] = payload
end
local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local lag = 0
if head[2] then lag = math.max(0, now - tonumber(head[2])) end
return {#batch, redis.call('ZCARD', KEYS[1]), lag, payloads}
"""


async def drain(url: str, queue: str, batch: int, *, events: bool) -> int:
    """Promote until nothing is due; the number promoted."""
    k = CHASQUIMQ.keys_of(queue)
    client, events_client = Redis.from_url(url), Redis.from_url(url)  # the reference has two connections as well
    lock, promote = await client.script_load(LOCK), await client.script_load(PROMOTE)
    total = 0
    while True:
        await client.evalsha(lock, 1, k.lock, "reference", 5)
        reply: Any = await client.evalsha(promote, 2, k.delayed, k.stream, batch, 1_000_000)
        total += int(reply[0])
        if reply[3]:
            ids = [msgpack.unpackb(payload)[0] for payload in reply[3]]
            await client.delete(*(k.index + id.encode() for id in ids))  # for jobs without an index as well
            for id in ids if events else ():
                await events_client.xadd(
                    k.events, {"e": "waiting", "id": id, "ts": 1}, maxlen=100_000, approximate=True
                )
        if reply[0] < batch:
            break
    await client.aclose()
    await events_client.aclose()
    return total


async def lateness(store: Any, jobs: int, seconds: float) -> dict[str, float]:
    """Of jobs by a plain ZADD client, under a loop that locks and promotes every 100 ms, whatever is known."""
    queue = store.new_queue()
    late: list[int] = []
    producer = asyncio.create_task(produce(store.raw_url, queue, jobs, seconds))
    while len(late) < jobs:
        lease = await store.backend.lock(queue, "reference", 5_000)
        promotion = await store.backend.promote(lease, PromotionRequest(limit=256, max_stream_len=1_000_000))
        late += [job.promoted_ms - job.due_ms for job in promotion.jobs]
        if promotion.promoted < 256:
            await asyncio.sleep(0.1)
    await producer
    return percentiles(late)
