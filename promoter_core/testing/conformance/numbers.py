"""Numbers beyond 16, 31, 32 or 53 bits, and years beyond 9999: none is truncated, rounded or wrapped around."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from promoter_core.spi import (
    LATENESS_MS,
    MAX_DUE_MS,
    FleetSupport,
    JobRequest,
    Lease,
    LeaseHeld,
    Overflow,
    Renewal,
    StreamName,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, SOON_MS, Kit, job
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.overdue import HOUR_MS, MINUTE_MS, REMEMBERED, Leap

KEPT = "Times, delays, leases, limits and lengths are whole numbers up to 2**53."
DELAYS_MS = (2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 10**10, 366 * 24 * HOUR_MS, 2**36 + 7, 2**40)
EDGES = (-1, 0, 1)
HUGE = (2**31 - 1, 2**31, 2**32, 2**40, 2**53)


class NumbersContract(ContractBase):
    async def test_long_delays_are_counted_in_full(self, kit: Kit) -> None:
        rule = "A `delay_ms` counts from the store's clock."
        for delay_ms in DELAYS_MS:
            k = kit.other()
            before = await k.backend.stats(k.queue)
            await k.schedule("a", delay_ms=delay_ms)
            after = await k.backend.stats(k.queue)
            due_ms = after.next_due_ms or 0
            kept = before.now_ms + delay_ms <= due_ms <= after.now_ms + delay_ms
            obliges("Backend.schedule", rule, kept, delay_ms=delay_ms, next_due_ms=due_ms, now_ms=after.now_ms)
            p = await k.promote(await k.lead())
            obliges("Backend.schedule", rule, (p.promoted, p.depth) == (0, 1), delay_ms=delay_ms, promotion=p)

    async def test_due_times_are_kept_to_the_last_millisecond_of_the_year_9999(self, kit: Kit) -> None:
        now_ms = (await kit.backend.stats(kit.queue)).now_ms
        dues = {now_ms + far_ms + edge for far_ms in (LONG_MS, 2**31, 2**32) for edge in EDGES}
        dues |= {2**bits + edge for bits in range(41, 48) for edge in EDGES if 2**bits > now_ms + LONG_MS}
        dues |= {MAX_DUE_MS - 1, MAX_DUE_MS, MAX_DUE_MS - 2**31, 10**13 - 1, 10**13, 10**14, 99_999_999_999_999}
        lease = await kit.lead()
        for due_ms in sorted(dues, reverse=True):  # each becomes the next due job
            await kit.schedule(f"{due_ms}", due_ms=due_ms)
            stats, p = await kit.backend.stats(kit.queue), await kit.promote(lease)
            obliges("Backend", KEPT, stats.next_due_ms == due_ms, due_ms=due_ms, stats=stats)
            obliges("Backend", KEPT, (p.next_due_ms, p.promoted) == (due_ms, 0), due_ms=due_ms, promotion=p)
        obliges("Backend", KEPT, p.depth == len(dues), scheduled=len(dues), promotion=p)

    async def test_a_renewal_tells_a_far_due_time(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        lease = await kit.lead()
        for due_ms in (MAX_DUE_MS, MAX_DUE_MS - 1, 2**43 + 1, 2**42 - 1):
            await kit.schedule(f"{due_ms}", due_ms=due_ms)
            answers = await kit.backend.renew_many([lease])
            told = [a.next_due_ms if isinstance(a, Renewal) else a for a in answers]
            obliges("Backend", KEPT, told == [due_ms], due_ms=due_ms, answers=answers)

    async def test_a_due_time_long_past_is_now(self, kit: Kit) -> None:
        before = (await kit.backend.stats(kit.queue)).now_ms
        await kit.backend.schedule(kit.queue, [job(f"{ms}", due_ms=ms) for ms in (0, 1, 2**31, 2**32, before - 2**33)])
        p = await kit.promote(await kit.lead())
        rule = "A due time in the past counts as now."
        dues = [j.due_ms for j in p.jobs]
        obliges("Backend.schedule", rule, len(dues) == 5 and min(dues) >= before, due_ms=dues, before_ms=before)
        obliges("Backend.schedule", rule, max(dues) <= p.now_ms, due_ms=dues, now_ms=p.now_ms)

    @pytest.mark.parametrize("ttl_ms", [2**31, 2**32, 2**32 + LONG_MS, 2**36])
    async def test_a_long_lease_lasts(self, kit: Kit, ttl_ms: int) -> None:
        lease = await kit.lead("me", ttl_ms)
        stats, refusal = await kit.backend.stats(kit.queue), await kit.backend.lock(kit.queue, "other", LONG_MS)
        rule = "Take or renew the queue's lock for `ttl_ms` milliseconds"
        least = ttl_ms - LONG_MS  # allows for a slow store
        obliges("Backend.lock", rule, lease.ttl_ms == ttl_ms, lease=lease)
        left = stats.lease_remaining_ms or 0
        obliges("Backend.lock", rule, least < left <= ttl_ms, ttl_ms=ttl_ms, stats=stats)
        left = (refusal.remaining_ms or 0) if isinstance(refusal, LeaseHeld) else -1
        obliges("Backend.lock", rule, least < left <= ttl_ms, ttl_ms=ttl_ms, refusal=refusal)
        await kit.promote(replace(lease, ttl_ms=ttl_ms * 2))
        left = (await kit.backend.stats(kit.queue)).lease_remaining_ms or 0
        obliges("Backend.promote", "With `request.renew` the lease restarts.", left > ttl_ms, remaining_ms=left)

    async def test_huge_limits_and_lengths_are_as_good_as_none(self, kit: Kit) -> None:
        lease = await kit.lead()
        for overflow in Overflow:
            for n, huge in enumerate(HUGE):
                await kit.schedule(f"{overflow}-{n}", delay_ms=0)
                lengths = {"max_stream_len": huge, "events_max_stream_len": huge}
                p = await kit.promote(lease, limit=huge, overflow=overflow, **lengths)
                obliges("Backend", KEPT, (p.promoted, p.held_back) == (1, 0), limit=huge, promotion=p)
                for stream in (StreamName.JOBS, StreamName.EVENTS):
                    entries = await kit.backend.read(kit.queue, stream, "", huge)
                    total = (overflow is list(Overflow)[1]) * len(HUGE) + n + 1
                    obliges("Backend", KEPT, len(entries) == total, limit=huge, stream=stream, entries=len(entries))

    @pytest.mark.parametrize(
        "envelope",
        [
            *(msgpack.packb(["a", b"", 0, attempt]) for attempt in (127, 128, 255, 256, 65_535, 65_536, 2**31, 2**32)),
            *(msgpack.packb(["a", b"", created, 0]) for created in (-1, 0, 2**32, 2**53 + 1, 2**63 - 1)),
            msgpack.packb(["a", b"p", 1, 2, {"retries": 5}]),
            msgpack.packb(["a", "text", 1, 2]),
            msgpack.packb(["a", {"b": [1.5, None]}, 1, 2]),
            b"\xdc\x00\x04\xd9\x01a\xc4\x01p\xcf" + bytes(7) + b"\x01\xce" + bytes(3) + b"\x02",
            b"\xdd\x00\x00\x00\x04\xda\x00\x01a\xc5\x00\x01p\xd3" + bytes(7) + b"\x01\xd2" + bytes(3) + b"\x02",
            b"\x94\xdb\x00\x00\x00\x01a\xc6\x00\x00\x00\x01p\x01\x02",
        ],
        ids=lambda envelope: f"{envelope[:12].hex()}-{len(envelope)}",
    )
    async def test_an_envelope_arrives_byte_for_byte_however_it_was_packed(self, kit: Kit, envelope: bytes) -> None:
        await kit.backend.schedule(kit.queue, [JobRequest("a", envelope, delay_ms=0)])
        p = await kit.promote(await kit.lead())
        seen = [entry.fields.get("d") for entry in await kit.entries(StreamName.JOBS)]
        rule = "The stream entry holds the envelope (`d`)"
        obliges("Backend.promote", rule, seen == [envelope], envelope=envelope, seen=seen)
        obliges("Backend.promote", rule, [j.id for j in p.jobs] == ["a"], envelope=envelope, jobs=p.jobs)

    async def test_an_id_is_remembered_for_an_hour_after_a_far_due_time(self, kit: Kit, leap: Leap) -> None:
        """A marker that expires relative to the request would be gone before the job is due."""
        for hours in (3, 1_200):
            await kit.schedule(f"{hours}", unique=True, delay_ms=hours * HOUR_MS)
            await leap(kit.queue, hours * HOUR_MS + SOON_MS)
            p = await kit.promote(await kit.lead(f"leader-{hours}"))
            obliges("Backend.schedule", REMEMBERED, p.promoted == 1, promotion=p)
            await leap(kit.queue, 55 * MINUTE_MS)
            (again,) = await kit.schedule(f"{hours}", unique=True)
            obliges("Backend.schedule", REMEMBERED, again.created is False, due_after_hours=hours, again=again)
            await leap(kit.queue, 10 * MINUTE_MS)
            (again,) = await kit.schedule(f"{hours}", unique=True)
            obliges("Backend.schedule", REMEMBERED, again.created is True, due_after_hours=hours, again=again)
            await kit.backend.cancel(kit.queue, [f"{hours}"])

    async def test_a_job_that_is_months_late_is_counted_in_full(self, kit: Kit, leap: Leap) -> None:
        late_ms = 2**32 + MINUTE_MS
        await kit.schedule("a", delay_ms=SOON_MS)
        await leap(kit.queue, late_ms + SOON_MS)
        await kit.lead("other")
        stats, refusal = await kit.backend.stats(kit.queue), await kit.backend.lock(kit.queue, "me", LONG_MS)
        most = late_ms + 2 * MINUTE_MS
        lag = stats.oldest_pending_lag_ms
        obliges("Backend.stats", "by the store's clock", late_ms <= lag < most, late_ms=late_ms, stats=stats)
        lag = refusal.oldest_pending_lag_ms if isinstance(refusal, LeaseHeld) else -1
        rule = "how late the oldest pending job is"
        obliges("Backend.lock", rule, late_ms <= lag < most, late_ms=late_ms, refusal=refusal)
        lease = Lease(kit.queue, "other", LONG_MS)
        waiting = await kit.promote(lease, max_stream_len=0)
        rule = "`depth`, `oldest_pending_lag_ms` and `next_due_ms` describe the set *after* the move"
        lag = waiting.oldest_pending_lag_ms
        obliges("Backend.promote", rule, late_ms <= lag < most, late_ms=late_ms, promotion=waiting)
        p = await kit.backend.promote(lease, REQUEST)
        counts = p.lateness_counts
        rule = "`lateness_counts` counts, for each bound of `promoter_core.spi.LATENESS_MS`, the promoted jobs"
        obliges("Backend.promote", rule, counts == (1,) * len(LATENESS_MS), promotion=p)
        ok = len(p.jobs) == 1 and late_ms <= p.jobs[0].promoted_ms - p.jobs[0].due_ms < most
        obliges("Backend.promote", "`now_ms` is the store's clock", ok, late_ms=late_ms, jobs=p.jobs)
