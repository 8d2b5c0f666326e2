"""Wrong with numbers: too few bits, too few digits, the wrong moment to count from."""

from __future__ import annotations

import struct
from dataclasses import replace

from promoter_core.spi import LeaseHeld, LeaseLost, Renewal, pack_envelope, unpack_envelope
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.promoting import EditsEntries
from tests.contract.mutants.scheduling import Rewrites

MOST = 2**31 - 1


def float32(number):
    return int(struct.unpack("f", struct.pack("f", number))[0])


class EndsDelaysAt31Bits(Rewrites):
    killed_by = "test_long_delays_are_counted_in_full"

    def rewrite(self, job):
        return job if job.delay_ms is None else replace(job, delay_ms=min(job.delay_ms, MOST))


class TurnsDelaysRoundAt32Bits(Rewrites):
    killed_by = "test_long_delays_are_counted_in_full"

    def rewrite(self, job):
        return job if job.delay_ms is None else replace(job, delay_ms=job.delay_ms % 2**32)


class KeepsDelaysInSeconds(Rewrites):
    killed_by = "test_long_delays_are_counted_in_full"

    def rewrite(self, job):
        return job if job.delay_ms is None else replace(job, delay_ms=job.delay_ms // 1000 * 1000)


class EndsDelaysAfterAYear(Rewrites):
    killed_by = "test_long_delays_are_counted_in_full"

    def rewrite(self, job):
        return job if job.delay_ms is None else replace(job, delay_ms=min(job.delay_ms, 365 * 86_400_000))


class KeepsDueTimesInFewBits(Rewrites):
    killed_by = "test_due_times_are_kept_to_the_last_millisecond_of_the_year_9999"

    def rewrite(self, job):
        return job if job.due_ms is None else replace(job, due_ms=float32(job.due_ms))


class RoundsFarDueTimesToSeconds(Rewrites):
    """A double of seconds has few digits left for a far time; a column of microseconds has none."""

    killed_by = "test_due_times_are_kept_to_the_last_millisecond_of_the_year_9999"

    def rewrite(self, job):
        far = job.due_ms is not None and job.due_ms > 10**14
        return replace(job, due_ms=job.due_ms // 1000 * 1000) if far else job


class EndsInTheYear2286(Rewrites):
    """Ten digits of seconds."""

    killed_by = "test_due_times_are_kept_to_the_last_millisecond_of_the_year_9999"

    def rewrite(self, job):
        return job if job.due_ms is None else replace(job, due_ms=min(job.due_ms, 9_999_999_999_999))


class ParksWhatIsFar(MemoryBackend):
    """The table that it looks at has the next weeks only."""

    killed_by = "test_due_times_are_kept_to_the_last_millisecond_of_the_year_9999"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        far = not isinstance(answer, LeaseLost) and (answer.next_due_ms or 0) > answer.now_ms + 30 * 86_400_000
        return replace(answer, next_due_ms=None) if far else answer


class RenewsWith32Bits(MemoryBackend):
    killed_by = "test_a_renewal_tells_a_far_due_time"

    async def renew_many(self, leases):
        answers = await super().renew_many(leases)
        return [replace(a, next_due_ms=float32(a.next_due_ms)) if isinstance(a, Renewal) else a for a in answers]


class TakesSmallDueTimesForDelays(Rewrites):
    killed_by = "test_a_due_time_long_past_is_now"

    def rewrite(self, job):
        small = job.due_ms is not None and job.due_ms < 2**33
        return replace(job, due_ms=None, delay_ms=job.due_ms) if small else job


class TakesZeroForNoDueTime(MemoryBackend):
    """`if job.due_ms` is no question whether there is one."""

    killed_by = "test_a_due_time_long_past_is_now"

    async def schedule(self, queue, jobs):
        far = [replace(job, due_ms=2**47) if job.due_ms == 0 else job for job in jobs]
        return await super().schedule(queue, far)


class EndsLeasesAt31Bits(MemoryBackend):
    killed_by = "test_a_long_lease_lasts"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, min(ttl_ms, MOST))
        return answer if isinstance(answer, LeaseHeld) else replace(answer, ttl_ms=ttl_ms)


class RenewsAtMostADay(MemoryBackend):
    killed_by = "test_a_long_lease_lasts"

    async def promote(self, lease, request):
        return await super().promote(replace(lease, ttl_ms=min(lease.ttl_ms, 86_400_000)), request)


class TellsWhatIsLeftIn32Bits(MemoryBackend):
    killed_by = "test_a_long_lease_lasts"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        return replace(answer, remaining_ms=answer.remaining_ms % 2**32) if isinstance(answer, LeaseHeld) else answer


class LimitsHave32Bits(MemoryBackend):
    killed_by = "test_huge_limits_and_lengths_are_as_good_as_none"

    async def promote(self, lease, request):
        return await super().promote(lease, replace(request, limit=request.limit % 2**32))


class LengthsAreSigned(MemoryBackend):
    killed_by = "test_huge_limits_and_lengths_are_as_good_as_none"

    async def promote(self, lease, request):
        length = (request.max_stream_len + 2**31) % 2**32 - 2**31
        return await super().promote(lease, replace(request, max_stream_len=length))


class ReadsWith32Bits(MemoryBackend):
    killed_by = "test_huge_limits_and_lengths_are_as_good_as_none"

    async def read(self, queue, stream, after, limit):
        return await super().read(queue, stream, after, limit % 2**32)


class TrimsEventsWith32Bits(MemoryBackend):
    killed_by = "test_huge_limits_and_lengths_are_as_good_as_none"

    async def emit(self, queue, jobs, max_stream_len):
        await super().emit(queue, jobs, max_stream_len % 2**32)


class AttemptsHave16Bits(EditsEntries):
    killed_by = "test_an_envelope_arrives_byte_for_byte_however_it_was_packed"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        return fields | {"d": pack_envelope(e.id, e.payload, e.created_at_ms, e.attempt % 2**16)}


class CreatedAtIsADouble(EditsEntries):
    killed_by = "test_an_envelope_arrives_byte_for_byte_however_it_was_packed"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        return fields | {"d": pack_envelope(e.id, e.payload, min(int(float(e.created_at_ms)), 2**63), e.attempt)}


class PacksEnvelopesAnew(EditsEntries):
    """It keeps columns instead of the envelope: all is there, in other bytes, and the fifth element is gone."""

    killed_by = "test_an_envelope_arrives_byte_for_byte_however_it_was_packed"

    def edit(self, fields):
        e = unpack_envelope(fields["d"])
        return fields | {"d": pack_envelope(e.id, e.payload, e.created_at_ms, e.attempt)}


class RemembersFromTheRequest(MemoryBackend):
    """A marker that ends an hour after the request, however far the due time is."""

    killed_by = "test_an_id_is_remembered_for_an_hour_after_a_far_due_time"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if answer.created:
                self._store.groups.setdefault(queue, {})[job.id] = self._now_ms() + 3_600_000
        return answers

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        for job in getattr(answer, "jobs", ()):
            self._store[lease.queue].remember(job.id, self._store.groups[lease.queue][job.id])
        return answer


class RemembersForAMonthAtMost(RemembersFromTheRequest):
    killed_by = "test_an_id_is_remembered_for_an_hour_after_a_far_due_time"

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, jobs)
        month_ms = self._now_ms() + 30 * 86_400_000
        for job in jobs:
            if (waiting := self._store[queue].waiting(job.id)) is not None:
                self._store.groups[queue][job.id] = min(waiting.due_ms + 3_600_000, month_ms)
        return answers


class StatsTellTheLagIn31Bits(MemoryBackend):
    killed_by = "test_a_job_that_is_months_late_is_counted_in_full"

    async def stats(self, queue):
        stats = await super().stats(queue)
        return replace(stats, oldest_pending_lag_ms=min(stats.oldest_pending_lag_ms, MOST))


class RefusalsTellTheLagIn32Bits(MemoryBackend):
    killed_by = "test_a_job_that_is_months_late_is_counted_in_full"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        if not isinstance(answer, LeaseHeld):
            return answer
        return replace(answer, oldest_pending_lag_ms=answer.oldest_pending_lag_ms % 2**32)


class CountsTheLateInTheFirstBuckets(MemoryBackend):
    killed_by = "test_a_job_that_is_months_late_is_counted_in_full"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        return answer if isinstance(answer, LeaseLost) else replace(answer, lateness_counts=answer.lateness_counts[:10])
