"""Wrong with the lock."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import Lease, LeaseHeld, LeaseLost
from promoter_memory.backend import MemoryBackend


class GrantsTheLockTwice(MemoryBackend):
    killed_by = "test_a_lock_held_by_another_is_refused_with_what_is_left_of_its_lease"

    async def lock(self, queue, holder, ttl_ms):
        await super().lock(queue, holder, ttl_ms)
        return Lease(queue, holder, ttl_ms)


class IgnoresExpiry(MemoryBackend):
    killed_by = "test_an_expired_lock_is_granted_to_another"

    async def lock(self, queue, holder, ttl_ms):
        held = self._store[queue].lock
        return LeaseHeld(1) if held and held[0] != holder else await super().lock(queue, holder, ttl_ms)


class RefusalLengthensTheLease(MemoryBackend):
    killed_by = "test_a_refusal_does_not_lengthen_the_lease"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        q = self._store[queue]
        if isinstance(answer, LeaseHeld):
            q.lock = (q.lock[0], q.lock[1] + ttl_ms)
        return answer


class DoesNotRenew(MemoryBackend):
    killed_by = "test_a_renewal_starts_the_lease_anew"

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.holder(now_ms) == holder:
            return Lease(queue, holder, ttl_ms)
        return await super().lock(queue, holder, ttl_ms)


class TellsNothingOfTheLease(MemoryBackend):
    killed_by = "test_a_lock_held_by_another_is_refused_with_what_is_left_of_its_lease"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        return LeaseHeld(None) if isinstance(answer, LeaseHeld) else answer


class DoesNotSayWhoLeads(MemoryBackend):
    killed_by = "test_a_refusal_names_the_holder_and_says_how_late_the_queue_is"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        return replace(answer, holder=holder) if isinstance(answer, LeaseHeld) else answer


class NeverSaysThatAQueueIsLate(MemoryBackend):
    killed_by = "test_a_refusal_names_the_holder_and_says_how_late_the_queue_is"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        return replace(answer, oldest_pending_lag_ms=0) if isinstance(answer, LeaseHeld) else answer


class ComparesHoldersByPrefix(MemoryBackend):
    killed_by = "test_holders_are_compared_exactly"

    async def lock(self, queue, holder, ttl_ms):
        return await super().lock(queue, holder[:8], ttl_ms)


class OneLockForAllQueues(MemoryBackend):
    killed_by = "test_each_queue_has_a_lock_of_its_own"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock("all", holder, ttl_ms)
        self._store[queue].lock = self._store["all"].lock
        return replace(answer, queue=queue) if isinstance(answer, Lease) else answer


class UnlocksWithoutCompare(MemoryBackend):
    killed_by = "test_unlock_never_releases_anothers_lock"

    async def unlock(self, lease):
        held, self._store[lease.queue].lock = self._store[lease.queue].lock, None
        return held is not None


class NeverUnlocks(MemoryBackend):
    killed_by = "test_unlock_releases_the_holders_lock"

    async def unlock(self, lease):
        return self._store[lease.queue].holder(self._clock.time_ms()) == lease.holder


class SaysItUnlockedAlways(MemoryBackend):
    killed_by = "test_unlock_of_a_free_lock_says_so"

    async def unlock(self, lease):
        await super().unlock(lease)
        return True


class UnlockWakesNobody(MemoryBackend):
    killed_by = "test_unlock_ends_a_followers_wait"

    async def unlock(self, lease):
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return False
        q.lock = None
        return True


class StaleLeasePromotes(MemoryBackend):
    killed_by = "test_a_lease_that_went_to_another_promotes_nothing"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        held, q.lock = q.lock, (lease.holder, now_ms + 1_000)
        answer = await super().promote(lease, replace(request, renew=False))
        q.lock = held
        return answer


class ExpiredLeasePromotes(MemoryBackend):
    killed_by = "test_an_expired_lease_promotes_nothing"

    async def promote(self, lease, request):
        q = self._store[lease.queue]
        if q.lock and q.lock[0] == lease.holder:
            q.lock = (lease.holder, max(q.lock[1], self._clock.time_ms() + 1))
        return await super().promote(lease, request)


class LostLeaseTakesTheLock(MemoryBackend):
    killed_by = "test_a_lost_lease_is_not_renewed"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        if isinstance(answer, LeaseLost):
            await self.lock(lease.queue, lease.holder, lease.ttl_ms)
        return answer


class PromoteDoesNotRenew(MemoryBackend):
    killed_by = "test_promote_renews_the_lease_when_asked"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, renew=False))


class PromoteAlwaysRenews(MemoryBackend):
    killed_by = "test_promote_leaves_the_lease_alone_otherwise"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, renew=True))
