"""The watchdog of ticks, on a loop whose time is virtual."""

from __future__ import annotations

import asyncio

import pytest

from promoter_redis.watchdog import Watchdog
from tests import virtual_loop
from tests.typed import untyped


class Watched:
    """A watchdog of 2 s that finds a wait slow after 0.5 s, and when it found one so."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.began_s = self.loop.time()
        self.slow: list[float] = []
        self.watchdog = Watchdog(2, 0.5, lambda: self.slow.append(self.passed_s))

    @property
    def passed_s(self):
        return round(self.loop.time() - self.began_s, 6)

    async def wait(self, answer_s: float | None = None, epoch: int = 0) -> object:
        """For an answer that comes then, if at all."""
        answer = self.loop.create_future()
        if answer_s is not None:
            self.loop.call_later(answer_s, lambda: None if answer.done() else answer.set_result([]))
        return await self.watchdog.wait(answer, epoch)


def test_waits_that_are_short_are_let_alone_however_many_they_are():
    async def main():
        watched = Watched()
        for _ in range(100):
            assert await watched.wait(0.4) == []
        assert watched.passed_s == 40
        assert watched.slow == []

    virtual_loop.run(main)


def test_a_wait_is_slow_once_and_then_it_ends():
    async def main():
        watched = Watched()
        await watched.wait(0.3)  # its timer is still there, and is no measure of the next wait
        with pytest.raises(TimeoutError):
            await watched.wait()
        assert watched.slow == [0.8]
        assert watched.passed_s == 2.3

    virtual_loop.run(main)


def test_a_slow_wait_is_no_measure_of_the_next():
    async def main():
        watched = Watched()
        for _ in range(2):
            await watched.wait(0.6)
        assert watched.slow == [0.5, 1.1]
        await watched.wait(1.9)
        await watched.wait(0.6)
        assert watched.slow == [0.5, 1.1, 1.7, 3.6]

    virtual_loop.run(main)


def test_a_wait_is_cut_if_it_began_in_an_older_epoch():
    async def main():
        watched = Watched()
        watched.loop.call_later(0.1, watched.watchdog.cut, 3)
        await watched.wait(0.2, epoch=3)
        watched.loop.call_later(0.1, watched.watchdog.cut, 4)
        with pytest.raises(TimeoutError):
            await watched.wait(epoch=3)
        assert watched.passed_s == 0.3

    virtual_loop.run(main)


def test_a_wait_that_is_cancelled_leaves_nothing_behind():
    async def main():
        watched = Watched()
        task = asyncio.create_task(watched.wait())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)
        assert watched.slow == []
        with pytest.raises(TimeoutError):
            await watched.wait()
        assert watched.passed_s == 12.1
        watched.watchdog.close()

    virtual_loop.run(main)


def test_a_timer_that_is_early_by_a_milliseconds_rounding_is_in_time():
    """uvloop counts in milliseconds: it would be asked again and again until the next one."""

    async def main():
        watched = Watched()
        later = watched.loop.call_at
        turns = 0

        def early(when_s, *call):
            nonlocal turns
            turns += 1
            return later(when_s - 0.0004, *call)

        untyped(watched.loop).call_at = early
        with pytest.raises(TimeoutError):
            await watched.watchdog.wait(watched.loop.create_future(), 0)
        assert len(watched.slow) == 1
        assert turns == 2

    virtual_loop.run(main)
