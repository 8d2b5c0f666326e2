"""Wrong with the length of a lease: when it starts anew, for how long, and what is left of one that has ended."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import Lease, LeaseHeld, LeaseLost, Promotion
from promoter_memory.backend import MemoryBackend


class RenewsSometimes(MemoryBackend):
    """Puts the lease back as it was where `renews` says so."""

    async def promote(self, lease, request):
        before = self._store[lease.queue].lock
        answer = await super().promote(lease, request)
        if isinstance(answer, Promotion) and not self.renews(answer, request):
            self._store[lease.queue].lock = before
        return answer


class RenewsWhenSomethingMoved(RenewsSometimes):
    killed_by = "test_a_tick_starts_the_lease_anew_whatever_it_moves"

    def renews(self, promotion, request):
        return promotion.promoted > 0


class RenewsNoFullBatch(RenewsSometimes):
    killed_by = "test_a_tick_starts_the_lease_anew_whatever_it_moves"

    def renews(self, promotion, request):
        return promotion.promoted < request.limit


class RenewsNotWithoutRoom(RenewsSometimes):
    killed_by = "test_a_tick_starts_the_lease_anew_whatever_it_moves"

    def renews(self, promotion, request):
        return promotion.held_back == 0


class RenewsIdleTicksOnly(RenewsSometimes):
    killed_by = "test_a_tick_starts_the_lease_anew_whatever_it_moves"

    def renews(self, promotion, request):
        return promotion.promoted == 0


class RenewsForThoseWhoWantJobs(RenewsSometimes):
    killed_by = "test_a_tick_starts_the_lease_anew_whatever_it_moves"

    def renews(self, promotion, request):
        return request.want_jobs


class NeverShortens(MemoryBackend):
    """PEXPIRE … GT."""

    def longer(self, queue, before):
        now = self._store[queue].lock
        if before and now and before[0] == now[0]:
            self._store[queue].lock = max(before, now, key=lambda lock: lock[1])


class LockNeverShortens(NeverShortens):
    killed_by = "test_a_lease_that_starts_anew_is_as_long_as_it_says"

    async def lock(self, queue, holder, ttl_ms):
        before = self._store[queue].lock
        answer = await super().lock(queue, holder, ttl_ms)
        self.longer(queue, before)
        return answer


class PromoteNeverShortens(NeverShortens):
    killed_by = "test_a_lease_that_starts_anew_is_as_long_as_it_says"

    async def promote(self, lease, request):
        before = self._store[lease.queue].lock
        answer = await super().promote(lease, request)
        self.longer(lease.queue, before)
        return answer


class RenewManyNeverShortens(NeverShortens):
    killed_by = "test_a_lease_that_starts_anew_is_as_long_as_it_says"

    async def renew_many(self, leases):
        before = [self._store[lease.queue].lock for lease in leases]
        answers = await super().renew_many(leases)
        for lease, lock in zip(leases, before, strict=True):
            self.longer(lease.queue, lock)
        return answers


class AddsToWhatIsLeft(MemoryBackend):
    killed_by = "test_a_lease_that_starts_anew_is_as_long_as_it_says"

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        left_ms = q.lock[1] - now_ms if q.holder(now_ms) == holder else 0
        answer = await super().lock(queue, holder, ttl_ms + left_ms)
        return replace(answer, ttl_ms=ttl_ms) if isinstance(answer, Lease) else answer


class KeepsTheFirstLength(MemoryBackend):
    """The length that the lock was taken with is written beside it, and used for every renewal."""

    killed_by = "test_a_lease_that_starts_anew_is_as_long_as_it_says"

    def __init__(self, store):
        super().__init__(store)
        self.lengths = {}

    async def lock(self, queue, holder, ttl_ms):
        self.lengths.setdefault((queue, holder), ttl_ms)
        return await super().lock(queue, holder, ttl_ms)

    async def promote(self, lease, request):
        return await super().promote(
            replace(lease, ttl_ms=self.lengths.get((lease.queue, lease.holder), lease.ttl_ms)), request
        )


class EndedLocksStayTheirs(MemoryBackend):
    """Whose row it is counts, and not whether it has ended."""

    def ours(self, lease):
        q, now_ms = self._queue(lease.queue)
        if q.lock and q.lock[0] == lease.holder:
            q.lock = (lease.holder, max(q.lock[1], now_ms + 1))


class PromoteRevivesALease(EndedLocksStayTheirs):
    killed_by = "test_an_ended_lease_does_not_start_anew"

    async def promote(self, lease, request):
        self.ours(lease)
        return await super().promote(lease, request)


class PromoteManyRevivesLeases(EndedLocksStayTheirs):
    killed_by = "test_an_ended_lease_does_not_start_anew"

    async def promote_many(self, requests):
        for lease, _ in requests:
            self.ours(lease)
        return await super().promote_many(requests)


class RenewManyRevivesLeases(EndedLocksStayTheirs):
    killed_by = "test_an_ended_lease_does_not_start_anew"

    async def renew_many(self, leases):
        for lease in leases:
            self.ours(lease)
        return await super().renew_many(leases)


class ReleasesAnEndedLease(EndedLocksStayTheirs):
    killed_by = "test_an_ended_lease_is_not_released"

    async def unlock(self, lease):
        self.ours(lease)
        return await super().unlock(lease)


class RevivesWhatItRefuses(MemoryBackend):
    """Writes the new end first, and then looks whether the lease had been alive."""

    killed_by = "test_an_ended_lease_does_not_start_anew"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        answer = await super().promote(lease, request)
        if isinstance(answer, LeaseLost) and q.lock and q.lock[0] == lease.holder:
            q.lock = (lease.holder, now_ms + lease.ttl_ms)
        return answer


class ShowsEndedHolders(MemoryBackend):
    killed_by = "test_an_ended_lease_is_shown_nowhere"

    async def stats(self, queue):
        held = self._store[queue].lock
        return replace(await super().stats(queue), holder=held[0] if held else None)


class ShowsWhatIsLeftOfNothing(MemoryBackend):
    killed_by = "test_an_ended_lease_is_shown_nowhere"

    async def stats(self, queue):
        stats, held = await super().stats(queue), self._store[queue].lock
        return replace(stats, lease_remaining_ms=max(held[1] - stats.now_ms, 0) if held else None)


class NamesTheHolderBefore(MemoryBackend):
    """Holders come from a history: the first row for the queue, and not the one that counts."""

    killed_by = "test_an_ended_lease_is_shown_nowhere"

    def __init__(self, store):
        super().__init__(store)
        self.first = {}

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        if isinstance(answer, LeaseHeld):
            return replace(answer, holder=self.first[queue])
        self.first.setdefault(queue, holder)
        return answer


class RefusesItsOwnEndedLease(MemoryBackend):
    """INSERT fails for a row of one's own that has ended."""

    killed_by = "test_an_ended_lease_is_given_again_to_its_holder"

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.lock and q.lock[0] == holder and q.holder(now_ms) is None:
            return LeaseHeld(0, holder)
        return await super().lock(queue, holder, ttl_ms)


class GivesItsEndedLeaseNoNewEnd(MemoryBackend):
    killed_by = "test_an_ended_lease_is_given_again_to_its_holder"

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.lock and q.lock[0] == holder and q.holder(now_ms) is None:
            return Lease(queue, holder, ttl_ms)
        return await super().lock(queue, holder, ttl_ms)


class RenewManyRenewsForOthers(MemoryBackend):
    """UPDATE … WHERE queue IN (…), without the holder."""

    killed_by = "test_a_lease_of_another_stays_as_it_is"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        now_ms = self._now_ms()
        for lease in leases:
            q = self._store[lease.queue]
            if (holder := q.holder(now_ms)) is not None:
                q.lock = (holder, now_ms + lease.ttl_ms)
        return answers


class PromoteRenewsForOthers(MemoryBackend):
    killed_by = "test_a_lease_of_another_stays_as_it_is"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        if (holder := q.holder(now_ms)) is not None:
            q.lock = (holder, now_ms + lease.ttl_ms)
        return await super().promote(lease, request)


class PromoteLengthensOthers(MemoryBackend):
    killed_by = "test_a_lease_of_another_stays_as_it_is"

    async def promote_many(self, requests):
        answers = await super().promote_many(requests)
        for (lease, _), answer in zip(requests, answers, strict=True):
            q, now_ms = self._queue(lease.queue)
            if isinstance(answer, LeaseLost) and (holder := q.holder(now_ms)):
                q.lock = (holder, max(q.lock[1], now_ms + lease.ttl_ms))
        return answers


class RenewsUnaskedWhatItMoves(MemoryBackend):
    """Writes the lock's end with the jobs, although nobody asked for a renewal."""

    killed_by = "test_promote_leaves_the_lease_alone_otherwise"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        if isinstance(answer, Promotion) and answer.promoted:
            self._store[lease.queue].lock = (lease.holder, answer.now_ms + lease.ttl_ms)
        return answer
