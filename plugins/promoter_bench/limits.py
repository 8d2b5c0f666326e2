"""The limit of any promote script: a script that does only the XADDs that a batch needs, on the same server.

`constant` adds the same entry again and again; `passed` receives the batch's entries as arguments, so it has to read
their bytes, as a promotion has to read them from the set. `promote` is `Backend.promote` on a backlog.

All three are the time that the server spends in EVALSHA, by its own count in INFO commandstats, so none includes the
round trip, the client or Python.
"""

from __future__ import annotations

from typing import Any

from promoter_bench.store import PAYLOAD, ServerStore, member_of
from promoter_core.spi import CHASQUIMQ, Lease, Promotion, PromotionRequest

BATCH = 1_024

CONSTANT = """
for i = 1, tonumber(ARGV[1]) do
  redis.call('XADD', KEYS[1], '*', 'd', ARGV[2])
  if #KEYS == 2 then redis.call('XADD', KEYS[2], '*', 'e', 'waiting', 'id', ARGV[3], 'ts', ARGV[4]) end
end
"""
PASSED = """
for i = 4, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'd', ARGV[i])
  if #KEYS == 2 then redis.call('XADD', KEYS[2], '*', 'e', 'waiting', 'id', ARGV[2], 'ts', ARGV[3]) end
end
"""
ID, TS = "01M85SFPTNPWAT758QM000000001", "1795000000000"


async def limits(store: ServerStore, jobs: int, *, events: bool) -> dict[str, float]:
    """Return the server's microseconds a job, at batch 1,024: for `promote`, and for each limit."""
    k = CHASQUIMQ.keys_of(store.new_queue())
    streams = [k.stream, k.events][: 2 if events else 1]
    batches = jobs // BATCH
    envelopes = [member_of(f"01M85SFPTNPWAT758QM{i:09d}", PAYLOAD)[4:] for i in range(BATCH)]
    constant, passed = [await store.raw.script_load(source) for source in (CONSTANT, PASSED)]
    used = {}
    for name, sha, args in (
        ("constant", constant, [BATCH, envelopes[0], ID, TS]),
        ("passed", passed, [BATCH, ID, TS, *envelopes]),
    ):
        before = await _script_us(store.raw)
        for _ in range(batches):
            await store.raw.evalsha(sha, len(streams), *streams, *args)
        used[name] = (await _script_us(store.raw) - before) / batches / BATCH
        await store.forget(store.queues[-1])
    used["promote"] = await _promote(store, batches * BATCH, events=events)
    return used


async def _promote(store: ServerStore, jobs: int, *, events: bool) -> float:
    queue = store.new_queue()
    lease = await store.backend.lock(queue, "bench", 3_600_000)
    assert isinstance(lease, Lease)
    many = 10**9  # max stream length that neither trims nor holds back
    request = PromotionRequest(
        limit=BATCH, max_stream_len=many, events=events, events_max_stream_len=many, want_jobs=False
    )
    await store.backend.promote(lease, request)  # nothing is due; this only loads the script
    await store.load(queue, jobs, index=events)
    before, moved = await _script_us(store.raw), 0
    while moved < jobs:
        promotion = await store.backend.promote(lease, request)
        assert isinstance(promotion, Promotion), "the lease ended before the backlog"
        moved += promotion.promoted
    used = (await _script_us(store.raw) - before) / jobs
    await store.forget(queue)
    return used


async def _script_us(client: Any) -> float:
    """Return the microseconds that the server has spent in scripts run with EVALSHA."""
    stats = await client.info("commandstats")
    return float(stats.get("cmdstat_evalsha", {}).get("usec", 0))
