"""Wrong with what is left after close."""

from __future__ import annotations

import asyncio
import contextlib

from promoter_core.spi import ChangeKind, TransientError
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped

JOBS = ChangeKind.JOBS


class OpenWhenClosed(MemoryBackend):
    """One method does not ask whether the backend is open."""

    async def anyway(self, call):
        was, self._life.is_open = self._life.is_open, True
        try:
            return await call
        finally:
            self._life.is_open = was


class ReadsAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def read(self, queue, stream, after, limit):
        return await self.anyway(super().read(queue, stream, after, limit))


class LocksAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def lock_many(self, queues, holder, ttl_ms):
        return await self.anyway(super().lock_many(queues, holder, ttl_ms))


class SchedulesAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def schedule(self, queue, jobs):
        return await self.anyway(super().schedule(queue, jobs))


class EmitsAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def emit(self, queue, jobs, max_stream_len):
        await self.anyway(super().emit(queue, jobs, max_stream_len))


class SubscribesAfterClose(OpenWhenClosed):
    killed_by = "test_after_close_every_method_refuses"

    async def subscribe(self):
        return await self.anyway(super().subscribe())


class WaitsInSilenceAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def wait(self, queue, change, timeout_s):
        return await super().wait(queue, change, timeout_s) if self._life.is_open else False


class LooksAfterAWaitOnly(MemoryBackend):
    """A wait that has no time does not come to the question whether the backend is open."""

    killed_by = "test_after_close_every_method_refuses"

    async def wait(self, queue, change, timeout_s):
        return timeout_s > 0 and await super().wait(queue, change, timeout_s)


class FindsNothingAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def find_queues(self, patterns):
        if self._life.is_open:
            async for page in super().find_queues(patterns):
                yield page


class AnnouncesAfterClose(MemoryBackend):
    """Best effort: whatever goes wrong is let go."""

    killed_by = "test_after_close_every_method_refuses"

    async def announce(self, queues):
        with contextlib.suppress(TransientError):
            await super().announce(queues)


class RenewsNothingAfterClose(MemoryBackend):
    killed_by = "test_after_close_every_method_refuses"

    async def renew_many(self, leases):
        try:
            return await super().renew_many(leases)
        except TransientError as error:
            return [error] * len(leases)


class CloseLeavesFollowersHanging(MemoryBackend):
    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._life.is_open = False
        for kind, queue in list(self._store.flags._flags):
            if kind is JOBS:
                self._store.flags.set(kind, queue)


class CloseEndsTheLastWait(MemoryBackend):
    """It keeps one task, of the wait that began last."""

    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._life.is_open = False
        self._task.cancel()

    async def wait(self, queue, change, timeout_s):
        self._task = asyncio.ensure_future(super().wait(queue, change, timeout_s))
        try:
            return await self._task
        except asyncio.CancelledError:
            raise TransientError("closed", code="CLOSED") from None


class CloseRaisesCancellation(MemoryBackend):
    """A caller that waits finds itself cancelled."""

    killed_by = "test_closing_ends_every_wait"

    async def close(self):
        self._life.is_open = False
        for task in self._store.groups.get("waits", {}):
            task.cancel()

    async def wait(self, queue, change, timeout_s):
        task = asyncio.ensure_future(super().wait(queue, change, timeout_s))
        self._store.groups.setdefault("waits", {})[task] = 1
        return await task


class CloseLeavesFeedsHanging(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        self._life.is_open = False
        for flag in self._store.flags._flags.values():
            flag.set()


class CloseEndsFeedsInSilence(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        feeds = list(self._store.flags._feeds)
        await super().close()
        for feed in feeds:
            feed._everything = False


class CloseEndsTheFeedsThatAreRead(MemoryBackend):
    killed_by = "test_closing_ends_a_feed"

    async def close(self):
        feeds = list(self._store.flags._feeds)
        await super().close()
        for feed in feeds[1:]:
            feed._everything = False


class CloseDropsTheStore(MemoryBackend):
    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def close(self):
        await super().close()
        self._store._queues.clear()


class CloseFreesTheLocks(MemoryBackend):
    """It does not know which of them are its own."""

    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def close(self):
        await super().close()
        for _, q in self._store.queues():
            q.lock = None


class CloseClosesAll(MemoryBackend):
    """They share a pool of connections, and the first to go closes it."""

    killed_by = "test_closing_one_backend_leaves_the_others_alone"

    async def open(self):
        self._store.groups.setdefault("pool", {})[self] = 1
        await super().open()

    async def close(self):
        for backend in self._store.groups["pool"]:
            backend._life.is_open = False
        await super().close()


class CloseEndsTheSharedListener(MemoryBackend):
    killed_by = "test_waits_and_feeds_go_on_when_another_backend_closes"

    async def close(self):
        await super().close()
        untyped(self._store.flags).set = lambda kind, queue: None


class CloseForgetsAllFeeds(MemoryBackend):
    killed_by = "test_waits_and_feeds_go_on_when_another_backend_closes"

    async def close(self):
        await super().close()
        self._store.flags._feeds.clear()
