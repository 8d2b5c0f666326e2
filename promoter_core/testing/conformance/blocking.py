"""Calls that carry thousands of jobs leave the event loop to others meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest

from promoter_core.testing.conformance.base import ContractBase, needs_a_store_outside
from promoter_core.testing.conformance.harness import REQUEST, Kit, job
from promoter_core.testing.conformance.obligations import obliges

SIZES = (2_000, 16_000)  # jobs of a call, which is to last long enough
LONG_S = 0.1  # a shorter call says nothing: the loop may wait for the interpreter's lock, or for a processor
ROUNDS = 5  # a busy machine can stall the loop too: the best counts
MOST = 0.8  # of the call's duration, as one stall


class BlockingContract(ContractBase):
    async def test_a_call_with_many_jobs_does_not_block_the_event_loop(self, kit: Kit) -> None:
        needs_a_store_outside(kit)
        best: dict[str, tuple[float, str]] = {}
        sizes = iter(SIZES)
        number = next(sizes)
        for _ in range(ROUNDS):
            measured = await _stalls(kit.other(), number)
            while max(duration_s for _, duration_s in measured.values()) < LONG_S and (size := next(sizes, 0)):
                number = size
                measured = await _stalls(kit.other(), number)
            for call, (stall_s, duration_s) in measured.items():
                if duration_s >= LONG_S:
                    text = f"{stall_s * 1000:.0f} ms of {duration_s * 1000:.0f} ms"
                    best[call] = min(best.get(call, (2.0, "")), (stall_s / duration_s, text))
            if all(ratio <= MOST for ratio, _ in best.values()):
                break
        if not best:
            pytest.skip(f"needs calls that last for {LONG_S} s: {number} jobs take less")
        ok = all(ratio <= MOST for ratio, _ in best.values())
        seen = {call: text for call, (_, text) in best.items()}
        obliges("Backend", "it never blocks the event loop", ok, jobs=number, longest_stall_of_the_loop=seen)


async def _stalls(kit: Kit, number: int) -> dict[str, tuple[float, float]]:
    """Make calls of so many jobs. Return for each call the longest stall of the event loop and the call's duration."""
    lease, backend = await kit.lead(), kit.backend.inner  # the kit's checks of the answers take time too
    jobs = [job(f"j{i}", delay_ms=0) for i in range(number)]
    calls = {
        "schedule": backend.schedule(kit.queue, jobs),
        "cancel": backend.cancel(kit.queue, [one.id for one in jobs[: number // 2]]),
        "promote": backend.promote(lease, replace(REQUEST, limit=number, want_jobs=False)),
    }
    return {name: await _watched(call) for name, call in calls.items()}


async def _watched(call: Coroutine[Any, Any, Any]) -> tuple[float, float]:
    began_s = last_s = time.perf_counter()
    longest_s, task = 0.0, asyncio.ensure_future(call)
    while not task.done():
        await asyncio.sleep(0.001)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    await task
    return longest_s, last_s - began_s
