"""`promoter doctor` on a queue, by what it finds."""

from __future__ import annotations

from promoter_core.cli import doctor
from tests.unit.memory_bench import promoter


async def test_a_store_without_consumer_groups_is_not_asked_for_one(backend, clock, queue):
    await queue.schedule(1)
    async with promoter(backend, clock).running():
        await clock.sleep(1)
        assert (await backend.stats("q")).stream_len == 1
        found = [finding.summary for finding in await doctor._look_at(backend, "q")]
    (leader,) = found
    assert " leads, with " in leader
