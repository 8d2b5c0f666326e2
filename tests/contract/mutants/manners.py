"""Wrong with waiting, closing, the shape of things, or whose exceptions come."""

from __future__ import annotations

import asyncio
import time

from promoter_core import PermanentError
from promoter_core.spi import ChangeFlags, ChangeKind
from promoter_memory.backend import MemoryBackend


class WakesNobody(MemoryBackend):
    killed_by = "test_a_new_head_ends_a_leaders_wait"

    async def wait(self, queue, change, timeout_s):
        self._store.flags.clear(ChangeKind.JOBS, queue)
        flags, self._store.flags = self._store.flags, ChangeFlags(self._clock)
        try:
            self._store.flags.expect(change, "nothing")
            return await self._store.flags.wait(change, "nothing", timeout_s)
        finally:
            self._store.flags = flags


class MissesAChangeBeforeTheWait(MemoryBackend):
    killed_by = "test_a_change_between_promote_and_wait_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        self._store.flags.clear(ChangeKind.JOBS, queue)
        return await super().wait(queue, change, timeout_s)


class MissesAnUnlockBeforeTheWait(MemoryBackend):
    killed_by = "test_an_unlock_between_lock_and_wait_is_not_missed"

    async def wait(self, queue, change, timeout_s):
        self._store.flags.clear(ChangeKind.LOCK, queue)
        return await super().wait(queue, change, timeout_s)


class WaitsTooShort(MemoryBackend):
    killed_by = "test_a_wait_ends_when_the_time_is_up"

    async def wait(self, queue, change, timeout_s):
        return await super().wait(queue, change, timeout_s / 2)


class BlocksTheEventLoop(MemoryBackend):
    killed_by = "test_a_wait_does_not_block_the_event_loop"

    async def wait(self, queue, change, timeout_s):
        time.sleep(min(timeout_s, 0.3))  # noqa: ASYNC251  # that is the mutation
        return await super().wait(queue, change, timeout_s)


class CloseLeavesWaitersAlone(MemoryBackend):
    killed_by = "test_closing_ends_a_wait"

    async def close(self):
        self._life.is_open = False


class WorksAfterClose(MemoryBackend):
    killed_by = "test_closing_twice_is_harmless_and_afterwards_nothing_works"

    async def close(self):
        await super().close()
        self._life.is_open = True


class ClosesOnce(MemoryBackend):
    killed_by = "test_closing_twice_is_harmless_and_afterwards_nothing_works"

    async def close(self):
        if not self._life.is_open:
            raise PermanentError("closed already", code="CLOSED")
        await super().close()


class ForgetsWhenOpenedAgain(MemoryBackend):
    killed_by = "test_opening_twice_is_harmless"

    async def open(self):
        self._store._queues.clear()
        await super().open()


class SharesNothing(MemoryBackend):
    killed_by = "test_backends_on_one_store_see_the_same_queue"

    def __init__(self, store):
        super().__init__(clock=store.clock)


class RaisesItsDriversException(MemoryBackend):
    killed_by = "test_closing_twice_is_harmless_and_afterwards_nothing_works"

    def _queue(self, queue):
        if not self._life.is_open:
            raise ConnectionResetError("the driver's own")
        return super()._queue(queue)


class LacksAMethod(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"
    stats = None


class HasAnotherSignature(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"

    async def promote(self, lease, limit, *, want_everything):
        raise NotImplementedError


class IsNotAsync(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"

    def unlock(self, lease):
        return asyncio.ensure_future(super().unlock(lease))


class LacksAPhaseThatItDoesNotFuse(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"
    emit = None


class HasAnotherSignatureOfAnOptionalMethod(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"

    async def renew_many(self, locks):
        return await super().renew_many(locks)


class AnswersQueuesThatMustBeAwaited(MemoryBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"

    async def find_queues(self, patterns):
        return super().find_queues(patterns)


class ReturnsLists(MemoryBackend):
    killed_by = "test_a_unique_id_is_scheduled_once"

    async def schedule(self, queue, jobs):
        return list(await super().schedule(queue, jobs))


class ReturnsNothing(MemoryBackend):
    killed_by = "test_unlock_releases_the_holders_lock"

    async def unlock(self, lease):
        await super().unlock(lease)


class TakesTheLockForTheJobs(MemoryBackend):
    killed_by = "test_unlock_ends_a_followers_wait"

    async def wait(self, queue, change, timeout_s):
        return await super().wait(queue, ChangeKind.JOBS, timeout_s)


class WaitsForSomethingElse(MemoryBackend):
    killed_by = "test_cancelling_a_wait_is_safe"

    async def wait(self, queue, change, timeout_s):
        try:
            return await super().wait(queue, change, timeout_s)
        except asyncio.CancelledError:
            self._store[queue].lock = None  # a cancelled wait gives up more than itself
            raise
