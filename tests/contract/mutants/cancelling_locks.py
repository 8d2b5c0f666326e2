"""Half done when a call that concerns the lock, or a group, is cut off on the way."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import (
    ChangeKind,
    Lease,
    LeaseLost,
)
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.processes import round_trip

GRACE_MS = 3_600_000


class LocksAndThenSaysHowLong(MemoryBackend):
    """SETNX and PEXPIRE: cut between the two, the lock never ends."""

    killed_by = "test_a_lock_that_is_cut_is_taken_or_not"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, 10**12)
        if isinstance(answer, Lease):
            await round_trip()
            await super().lock(queue, holder, ttl_ms)
            return replace(answer, ttl_ms=ttl_ms)
        return answer


class LocksManyAndThenSaysHowLong(MemoryBackend):
    killed_by = "test_a_lock_that_is_cut_is_taken_or_not"

    async def lock_many(self, queues, holder, ttl_ms):
        answers = await super().lock_many(queues, holder, 10**12)
        await round_trip()
        ours = [queue for queue, answer in zip(queues, answers, strict=True) if isinstance(answer, Lease)]
        await super().lock_many(ours, holder, ttl_ms)
        return [replace(a, ttl_ms=ttl_ms) if isinstance(a, Lease) else a for a in answers]


class DeletesTheLockToRenewIt(MemoryBackend):
    killed_by = "test_a_renewal_that_is_cut_keeps_the_lock"

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.holder(now_ms) == holder:
            q.lock = None
            await round_trip()
        return await super().lock(queue, holder, ttl_ms)


class PersistsTheLocksToRenewThem(MemoryBackend):
    """Takes the end away and then sets a new one."""

    killed_by = "test_a_renewal_that_is_cut_keeps_the_lock"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        ours = [lease for lease, a in zip(leases, answers, strict=True) if not isinstance(a, LeaseLost)]
        for lease in ours:
            self._store[lease.queue].lock = None
        await round_trip()
        for lease in ours:
            await self.lock(lease.queue, lease.holder, lease.ttl_ms)
        return answers


class EmptiesTheLockBeforeItGoes(MemoryBackend):
    """Writes an empty holder, and deletes the row in a second step."""

    killed_by = "test_an_unlock_that_is_cut_is_done_or_not"

    async def unlock(self, lease):
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return False
        ends_ms = q.lock[1]
        q.lock = ("", ends_ms)
        await round_trip()
        q.lock = (lease.holder, ends_ms)
        return await super().unlock(lease)


class UnlocksAndThenWakes(MemoryBackend):
    killed_by = "test_an_unlock_that_is_cut_wakes_when_it_is_done"

    async def unlock(self, lease):
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return False
        q.lock = None
        await round_trip()
        self._store.flags.set(ChangeKind.LOCK, lease.queue)
        return True


class JoinsAndThenSaysHowLong(MemoryBackend):
    killed_by = "test_a_process_that_is_cut_as_it_joins_is_a_member_for_a_while_or_not"

    async def join_group(self, group, member, ttl_ms):
        await super().join_group(group, member, 10**12)
        await round_trip()
        return await super().join_group(group, member, ttl_ms)
