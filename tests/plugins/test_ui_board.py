"""What many visitors of promoter_ui cost the store."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("starlette")
pytest.importorskip("jinja2")

from promoter_core import DelayedQueue
from promoter_core.testing import VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_ui.board import ROWS, STALE_S, Asked, Board

QUEUES = 400


class Counted(MemoryBackend):
    reads = 0

    async def stats(self, queue):
        self.reads += 1
        await asyncio.sleep(0)
        return await super().stats(queue)


@pytest.fixture
async def backend():
    backend = Counted(clock=VirtualClock())
    await backend.open()
    for n in range(QUEUES):
        await DelayedQueue(backend, f"q{n:03}", clock=backend._clock).schedule({}, delay=3600)
    yield backend
    await backend.close()


async def watched(backend, *pages, seconds):
    """How often the store is asked about a queue while each page is brought up to date every two seconds."""
    board = Board(backend, "*", every_s=100_000, idle_s=100_000, clock=backend._clock)
    await board.look()
    while any(queue.read_s is None for queue in board.queues()[0]) or len(board.queues()[0]) < QUEUES:
        await backend._clock.sleep(1)
    await backend._clock.sleep(30)
    backend.reads = 0
    for _ in range(int(seconds / STALE_S)):
        await asyncio.gather(*(board.rows(asked) for asked in pages))
        await backend._clock.sleep(STALE_S + 0.001)
    ages_s = [backend._clock.monotonic() - queue.read_s for asked in pages for queue in (await board.rows(asked))[0]]
    await board.close()
    return backend.reads, max(ages_s)


async def test_visitors_of_different_rows_share_what_is_read_again(backend):
    one, _ = await watched(backend, Asked(), seconds=40)
    four, oldest_s = await watched(backend, *(Asked(page=page) for page in (1, 2, 3, 4)), seconds=40)
    assert one == ROWS * 20 + ROWS  # with the last look
    assert four <= 1.3 * one  # each of the first looks reads its rows
    assert oldest_s < 5 * STALE_S, "each row has its turn"


async def test_visitors_of_the_same_rows_read_them_once(backend):
    one, _ = await watched(backend, Asked(), seconds=10)
    many, oldest_s = await watched(backend, *[Asked()] * 20, seconds=10)
    assert many == one
    assert oldest_s < STALE_S
