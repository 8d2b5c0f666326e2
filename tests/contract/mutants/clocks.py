"""Off by a millisecond, or by the clock: seen only where the test sets the store's clock."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import LATENESS_MS, Lease, LeaseHeld, LeaseLost, Members, Promotion
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.processes import round_trip

ONE_MOMENT = "test_a_lease_ends_at_one_moment_for_all_methods"


class Shifted(MemoryBackend):
    """A method that lives by another millisecond than the rest: `late` of them behind the clock."""

    def shift(self, queue, late):
        if (lock := self._store[queue].lock) is not None:
            self._store[queue].lock = (lock[0], lock[1] + late)


class LocksAMillisecondEarly(Shifted):
    killed_by = ONE_MOMENT

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.lock and q.lock[1] - now_ms <= 1:
            q.lock = None
        return await super().lock(queue, holder, ttl_ms)


class LocksAMillisecondLate(Shifted):
    killed_by = ONE_MOMENT

    async def lock(self, queue, holder, ttl_ms):
        q, now_ms = self._queue(queue)
        if q.lock and q.lock[0] != holder and q.lock[1] == now_ms:
            return LeaseHeld(0, q.lock[0])
        return await super().lock(queue, holder, ttl_ms)


class FenceEndsLater(Shifted):
    """`expires >= now` in one statement and `expires > now` in another."""

    killed_by = ONE_MOMENT

    async def promote(self, lease, request):
        self.shift(lease.queue, 1)
        answer = await super().promote(lease, request)
        self.shift(lease.queue, -1)
        return answer


class FenceEndsEarlier(Shifted):
    killed_by = ONE_MOMENT

    async def promote(self, lease, request):
        self.shift(lease.queue, -1)
        answer = await super().promote(lease, request)
        self.shift(lease.queue, 1)
        return answer


class UnlocksLater(Shifted):
    killed_by = ONE_MOMENT

    async def unlock(self, lease):
        self.shift(lease.queue, 1)
        released = await super().unlock(lease)
        self.shift(lease.queue, -1)
        return released


class StatsShowItLonger(Shifted):
    killed_by = ONE_MOMENT

    async def stats(self, queue):
        self.shift(queue, 1)
        stats = await super().stats(queue)
        self.shift(queue, -1)
        return stats


class RenewsManyLater(Shifted):
    killed_by = ONE_MOMENT

    async def renew_many(self, leases):
        now_ms = self._now_ms()
        for lease in leases:
            q = self._store[lease.queue]
            if q.lock == (lease.holder, now_ms):
                q.lock = (lease.holder, now_ms + 1)
        return await super().renew_many(leases)


class LeasesLastTwoMillisecondsMore(MemoryBackend):
    killed_by = ONE_MOMENT

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms + 2)
        return replace(answer, ttl_ms=ttl_ms) if isinstance(answer, Lease) else answer


class LeasesInWholeSeconds(MemoryBackend):
    """EX for PX, rounded up."""

    killed_by = ONE_MOMENT

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, -(-ttl_ms // 1000) * 1000)
        return replace(answer, ttl_ms=ttl_ms) if isinstance(answer, Lease) else answer


class RenewalsCountFromTheEnd(MemoryBackend):
    killed_by = "test_a_lease_that_starts_anew_ends_in_time"

    async def promote(self, lease, request):
        q, _ = self._queue(lease.queue)
        before = q.lock
        answer = await super().promote(lease, request)
        if isinstance(answer, Promotion):
            q.lock = (lease.holder, before[1] + lease.ttl_ms)
        return answer


class RenewalsInWholeSeconds(MemoryBackend):
    killed_by = "test_a_lease_that_starts_anew_ends_in_time"

    async def renew_many(self, leases):
        return await super().renew_many([replace(lease, ttl_ms=-(-lease.ttl_ms // 1000) * 1000) for lease in leases])


class PromotesAMillisecondLate(MemoryBackend):
    """`due < now`."""

    killed_by = "test_a_job_is_promoted_in_its_own_millisecond"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        if (head := q.head()) and head.due_ms == now_ms:
            return await super().promote(lease, replace(request, limit=0))
        return await super().promote(lease, request)


class PromotesAMillisecondEarly(MemoryBackend):
    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def schedule(self, queue, jobs):
        return await super().schedule(
            queue, [replace(job, due_ms=job.due_ms - 1) if job.due_ms is not None else job for job in jobs]
        )


class CountsDueAMillisecondLate(MemoryBackend):
    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def stats(self, queue):
        q, now_ms = self._queue(queue)
        return replace(await super().stats(queue), due=q.due(now_ms - 1))


class RenewalSaysDueAMillisecondLate(MemoryBackend):
    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        return [a if isinstance(a, LeaseLost) else replace(a, due=a.due and a.next_due_ms < a.now_ms) for a in answers]


class RefusalRoundsTheLag(MemoryBackend):
    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        if isinstance(answer, LeaseHeld):
            return replace(answer, oldest_pending_lag_ms=answer.oldest_pending_lag_ms // 10 * 10)
        return answer


class LagCountsTheMillisecondItself(MemoryBackend):
    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        if isinstance(answer, Promotion) and answer.oldest_pending_lag_ms:
            return replace(answer, oldest_pending_lag_ms=answer.oldest_pending_lag_ms + 1)
        return answer


class DelaysFromAnotherClock(MemoryBackend):
    """`delay_ms` counted from the producer's clock, which runs a little behind."""

    killed_by = "test_a_job_is_due_from_its_own_millisecond_on"

    async def schedule(self, queue, jobs):
        return await super().schedule(
            queue, [job if job.delay_ms is None else replace(job, delay_ms=job.delay_ms - 3) for job in jobs]
        )


class StampsTheNextMillisecond(MemoryBackend):
    """Reads the clock again for what it says of the jobs."""

    killed_by = "test_a_job_is_promoted_in_its_own_millisecond"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        if isinstance(answer, Promotion):
            jobs = tuple(replace(job, promoted_ms=job.promoted_ms + 1) for job in answer.jobs)
            return replace(answer, jobs=jobs)
        return answer


class AnswersByTheClockOfItsStart(MemoryBackend):
    """Reads the store's clock when it connects, and adds what has passed of its own."""

    killed_by = "test_the_clock_is_the_one_that_was_set"

    async def stats(self, queue):
        stats = await super().stats(queue)
        self.began_ms = getattr(self, "began_ms", stats.now_ms)
        return replace(stats, now_ms=self.began_ms + (stats.now_ms - self.began_ms) // 1000 * 1000)


class Counts(MemoryBackend):
    """Counts the late by bounds in another way."""

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, want_jobs=True))
        if not isinstance(answer, Promotion):
            return answer
        late_ms = [job.promoted_ms - job.due_ms for job in answer.jobs]
        counts = [sum(self.later(ms, bound_ms) for ms in late_ms) for bound_ms in self.bounds()]
        while counts and not counts[-1]:
            counts.pop()
        answer = replace(answer, lateness_counts=tuple(counts))
        return answer if request.want_jobs else replace(answer, jobs=())

    def later(self, late_ms, bound_ms):
        return late_ms > bound_ms

    def bounds(self):
        return LATENESS_MS


class CountsAtTheBound(Counts):
    killed_by = "test_lateness_is_counted_to_the_millisecond"

    def later(self, late_ms, bound_ms):
        return late_ms >= bound_ms


class CountsAMillisecondBeyond(Counts):
    killed_by = "test_lateness_is_counted_to_the_millisecond"

    def later(self, late_ms, bound_ms):
        return late_ms > bound_ms + 1


class ForgetsTheLastBound(Counts):
    killed_by = "test_lateness_is_counted_to_the_millisecond"

    def bounds(self):
        return LATENESS_MS[:-1]


class CountsFromTheSecondBound(Counts):
    killed_by = "test_lateness_is_counted_to_the_millisecond"

    def bounds(self):
        return LATENESS_MS[1:]


class CountsEachInOneBucket(MemoryBackend):
    """A histogram whose buckets are not cumulative."""

    killed_by = "test_lateness_is_counted_to_the_millisecond"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        if not isinstance(answer, Promotion):
            return answer
        counts = answer.lateness_counts
        buckets = tuple(a - b for a, b in zip(counts, (*counts[1:], 0), strict=True))
        return replace(answer, lateness_counts=buckets)


class RoundsLatenessToTens(Counts):
    killed_by = "test_lateness_is_counted_to_the_millisecond"

    def later(self, late_ms, bound_ms):
        return round(late_ms, -1) > bound_ms


class Remembers(MemoryBackend):
    """Remembers promoted ids up to another time."""

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            q.remember(job.id, self.until(job, now_ms))
        return answer


class RemembersForHalfAnHour(Remembers):
    killed_by = "test_an_id_is_remembered_for_an_hour_and_no_longer"

    def until(self, job, now_ms):
        return now_ms + 1_800_000


class RemembersForSixtyTwoMinutes(Remembers):
    killed_by = "test_an_id_is_remembered_for_an_hour_and_no_longer"

    def until(self, job, now_ms):
        return now_ms + 62 * 60_000


class RemembersFromTheDueTimeAlone(Remembers):
    killed_by = "test_an_id_is_remembered_for_an_hour_and_no_longer"

    def until(self, job, now_ms):
        return job.due_ms + 3_600_000


class RemembersTwiceAsLongWhenLate(Remembers):
    killed_by = "test_an_id_is_remembered_for_an_hour_and_no_longer"

    def until(self, job, now_ms):
        return now_ms + 3_600_000 + (now_ms - job.due_ms)


class ReadsTheFenceBeforeItsTransaction(MemoryBackend):
    killed_by = "test_nothing_is_promoted_once_the_lease_ended_and_another_leads"

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        if q.holder(now_ms) != lease.holder:
            return LeaseLost()
        await round_trip()
        held, q.lock = q.lock, (lease.holder, self._now_ms() + lease.ttl_ms)
        answer = await super().promote(lease, replace(request, renew=False))
        q.lock = held
        return answer


class RenewsWhatEndedOnTheWay(MemoryBackend):
    """The lease is renewed in a second step, whatever has become of it."""

    killed_by = "test_nothing_is_promoted_once_the_lease_ended_and_another_leads"

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, renew=False))
        if isinstance(answer, Promotion) and request.renew:
            await round_trip()
            self._store[lease.queue].lock = (lease.holder, self._now_ms() + lease.ttl_ms)
        return answer


class MembersStayAMillisecondMore(MemoryBackend):
    killed_by = "test_a_member_is_one_in_every_millisecond_of_its_term"

    async def join_group(self, group, member, ttl_ms):
        return await super().join_group(group, member, ttl_ms + 2)


class MembersGoAMillisecondEarly(MemoryBackend):
    killed_by = "test_a_member_is_one_in_every_millisecond_of_its_term"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        ends = self._store.groups[group]
        now_ms = self._now_ms()
        return Members(frozenset(name for name in members.names if ends[name] - now_ms > 1), members.next_expiry_ms)


class MembersExpireAtAnHour(MemoryBackend):
    """Says when the next one expires, as a time of day."""

    killed_by = "test_a_member_is_one_in_every_millisecond_of_its_term"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        at_ms = members.next_expiry_ms
        return replace(members, next_expiry_ms=None if at_ms is None else at_ms + self._now_ms())
