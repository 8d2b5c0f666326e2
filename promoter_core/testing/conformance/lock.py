"""lock and unlock: exclusivity, renewal, expiry, compare-and-delete."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from promoter_core.spi import FleetSupport, Lease, LeaseHeld, LeaseLost
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit
from promoter_core.testing.conformance.obligations import obliges

SHORT_MS = 120
ENDED = "An expired lease is not reported anywhere, and only `lock` grants it again."
RENEWING = ("promote", "renew_many", "promote_many")


class LockContract(ContractBase):
    async def test_a_free_lock_is_granted(self, kit: Kit) -> None:
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", "Grants a `Lease` when the lock is free", isinstance(answer, Lease), answer=answer)
        obliges(
            "Backend.lock",
            "Take or renew the queue's lock for `ttl_ms` milliseconds",
            (answer.queue, answer.holder, answer.ttl_ms) == (kit.queue, "me", LONG_MS),
            answer=answer,
        )

    async def test_the_same_holder_renews(self, kit: Kit) -> None:
        await kit.lead("me")
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", "or already belongs to `holder`", isinstance(answer, Lease), answer=answer)

    async def test_a_lock_held_by_another_is_refused_with_what_is_left_of_its_lease(self, kit: Kit) -> None:
        await kit.lead("other")
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", "At most one holder at any time.", isinstance(answer, LeaseHeld), answer=answer)
        left = answer.remaining_ms
        obliges(
            "Backend.lock",
            "Otherwise returns `LeaseHeld` with the remaining time of the other lease",
            left is not None and 0 < left <= LONG_MS,
            remaining_ms=left,
        )

    async def test_a_refusal_names_the_holder_and_says_how_late_the_queue_is(self, kit: Kit) -> None:
        await kit.lead("other – ünïcode")
        rule = "its holder, and how late the oldest pending job is."
        await kit.schedule("later", delay_ms=LONG_MS)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", rule, answer.holder == "other – ünïcode", answer=answer)
        obliges("Backend.lock", rule, answer.oldest_pending_lag_ms == 0, answer=answer)
        await kit.due("soon")
        await kit.sleep_ms(SHORT_MS)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        late = answer.oldest_pending_lag_ms
        obliges("Backend.lock", rule, SHORT_MS <= late < LONG_MS, answer=answer)
        left = await kit.backend.stats(kit.queue)
        obliges("Backend.lock", rule, left.depth == 2, stats=left)

    async def test_a_refusal_does_not_lengthen_the_lease(self, kit: Kit) -> None:
        await kit.lead("other", SHORT_MS)
        await kit.backend.lock(kit.queue, "me", LONG_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", "when the lock is free, has expired", isinstance(answer, Lease), answer=answer)

    async def test_an_expired_lock_is_granted_to_another(self, kit: Kit) -> None:
        await kit.lead("other", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.lock", "when the lock is free, has expired", isinstance(answer, Lease), answer=answer)

    async def test_a_renewal_starts_the_lease_anew(self, kit: Kit) -> None:
        await kit.lead("me", SHORT_MS)
        await kit.backend.lock(kit.queue, "me", LONG_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer = await kit.backend.lock(kit.queue, "other", LONG_MS)
        obliges("Backend.lock", "(then its lease restarts)", isinstance(answer, LeaseHeld), answer=answer)

    async def test_a_renewal_can_shorten_the_lease(self, kit: Kit) -> None:
        await kit.lead("me", LONG_MS)
        await kit.backend.lock(kit.queue, "me", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer = await kit.backend.lock(kit.queue, "other", LONG_MS)
        obliges("Backend.lock", "(then its lease restarts)", isinstance(answer, Lease), answer=answer)

    async def test_one_of_many_concurrent_callers_gets_the_lock(self, kit: Kit) -> None:
        answers = await asyncio.gather(*(kit.backend.lock(kit.queue, f"h{i}", LONG_MS) for i in range(20)))
        granted = [a for a in answers if isinstance(a, Lease)]
        obliges("Backend.lock", "At most one holder at any time.", len(granted) == 1, granted=granted)

    async def test_holders_are_compared_exactly(self, kit: Kit) -> None:
        await kit.lead("holder-1")
        for other in ("holder-11", "holder-", "HOLDER-1", "holder-1 "):
            answer = await kit.backend.lock(kit.queue, other, LONG_MS)
            obliges("Backend.lock", "At most one holder at any time.", isinstance(answer, LeaseHeld), other=other)

    async def test_each_queue_has_a_lock_of_its_own(self, kit: Kit) -> None:
        await kit.lead("me")
        answer = await kit.backend.lock(kit.other().queue, "other", LONG_MS)
        obliges("Backend", "Queues never see one another.", isinstance(answer, Lease), answer=answer)

    async def test_unlock_releases_the_holders_lock(self, kit: Kit) -> None:
        released = await kit.backend.unlock(await kit.lead("me"))
        obliges("Backend.unlock", "Returns True when it was released.", released is True, released=released)
        answer = await kit.backend.lock(kit.queue, "other", LONG_MS)
        obliges(
            "Backend.unlock", "Release the lock if `lease.holder` holds it", isinstance(answer, Lease), answer=answer
        )

    async def test_unlock_never_releases_anothers_lock(self, kit: Kit) -> None:
        await kit.lead("other")
        released = await kit.backend.unlock(Lease(kit.queue, "me", LONG_MS))
        obliges("Backend.unlock", "Returns True when it was released.", released is False, released=released)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges("Backend.unlock", "Never another holder's.", isinstance(answer, LeaseHeld), answer=answer)

    async def test_unlock_of_a_lease_that_went_to_another_changes_nothing(self, kit: Kit) -> None:
        stale = await kit.lead("me", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        await kit.lead("other")
        released = await kit.backend.unlock(stale)
        answer = await kit.backend.lock(kit.queue, "me", LONG_MS)
        obliges(
            "Backend.unlock",
            "Never another holder's.",
            released is False and isinstance(answer, LeaseHeld),
            answer=answer,
        )

    async def test_unlock_of_a_free_lock_says_so(self, kit: Kit) -> None:
        released = await kit.backend.unlock(Lease(kit.queue, "me", LONG_MS))
        obliges("Backend.unlock", "Returns True when it was released.", released is False, released=released)

    async def test_stats_name_the_holder_and_what_is_left(self, kit: Kit) -> None:
        lease = await kit.lead("me – ünïcode")
        stats = await kit.backend.stats(kit.queue)
        left = stats.lease_remaining_ms
        obliges(
            "Backend.stats", "Return a consistent snapshot of the queue", stats.holder == "me – ünïcode", stats=stats
        )
        obliges("Backend.stats", "by the store's clock", left is not None and 0 < left <= LONG_MS, stats=stats)
        await kit.backend.unlock(lease)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.stats", "Return a consistent snapshot of the queue", stats.holder is None, stats=stats)

    async def test_an_ended_lease_is_given_again_to_its_holder(self, kit: Kit) -> None:
        await kit.lead("me", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer, stats = await kit.lock("me"), await kit.backend.stats(kit.queue)
        obliges("Backend.lock", "when the lock is free, has expired", isinstance(answer, Lease), answer=answer)
        ok = stats.holder == "me" and (stats.lease_remaining_ms or 0) > LONG_MS // 2
        obliges("Backend.lock", "Take or renew the queue's lock for `ttl_ms` milliseconds", ok, stats=stats)

    async def test_an_ended_lease_is_not_released(self, kit: Kit) -> None:
        lease = await kit.lead("me", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        released = await kit.backend.unlock(lease)
        obliges("Backend.unlock", "Returns True when it was released.", released is False, released=released)

    async def test_an_ended_lease_is_shown_nowhere(self, kit: Kit) -> None:
        await kit.lead("before", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        stats = await kit.backend.stats(kit.queue)
        obliges("Backend.lock", ENDED, (stats.holder, stats.lease_remaining_ms) == (None, None), stats=stats)
        await kit.lead("now")
        stats, answer = await kit.backend.stats(kit.queue), await kit.lock("me")
        ok = stats.holder == "now" and (stats.lease_remaining_ms or 0) > LONG_MS // 2
        obliges("Backend.lock", ENDED, ok, stats=stats)
        ok = isinstance(answer, LeaseHeld) and answer.holder == "now" and (answer.remaining_ms or 0) > LONG_MS // 2
        obliges("Backend.lock", ENDED, ok, answer=answer)

    @pytest.mark.parametrize("by", RENEWING)
    async def test_an_ended_lease_does_not_start_anew(self, kit: Kit, by: str) -> None:
        lease = await kit.lead("me", SHORT_MS)
        await kit.sleep_ms(SHORT_MS + 30)
        answer = await self._renew(kit, by, Lease(lease.queue, "me", LONG_MS))
        stats = await kit.backend.stats(kit.queue)
        ok = isinstance(answer, LeaseLost) and (stats.holder, stats.lease_remaining_ms) == (None, None)
        obliges("Backend.lock", ENDED, ok, answer=answer, stats=stats)

    @pytest.mark.parametrize("by", ["lock", "unlock", *RENEWING])
    @pytest.mark.parametrize("ttl_ms", [10 * LONG_MS, 1], ids=["longer", "shorter"])
    async def test_a_lease_of_another_stays_as_it_is(self, kit: Kit, by: str, ttl_ms: int) -> None:
        await kit.lead("other")
        await self._renew(kit, by, Lease(kit.queue, "me", ttl_ms))
        stats = await kit.backend.stats(kit.queue)
        ok = stats.holder == "other" and LONG_MS // 2 < (stats.lease_remaining_ms or 0) <= LONG_MS
        obliges("Backend.lock", "At most one holder at any time.", ok, asked=f"{by} of me, {ttl_ms} ms", stats=stats)

    @pytest.mark.parametrize("ttl_ms", [10 * LONG_MS, LONG_MS // 4], ids=["longer", "shorter"])
    @pytest.mark.parametrize("by", ["lock", *RENEWING])
    async def test_a_lease_that_starts_anew_is_as_long_as_it_says(self, kit: Kit, by: str, ttl_ms: int) -> None:
        await kit.lead("me")
        answer = await self._renew(kit, by, Lease(kit.queue, "me", ttl_ms))
        stats = await kit.backend.stats(kit.queue)
        rule = "A lease that restarts ends `ttl_ms` from now, whether that is later or earlier than before."
        ok = stats.holder == "me" and ttl_ms // 2 < (stats.lease_remaining_ms or 0) <= ttl_ms
        obliges("Backend.lock", rule, ok, answer=answer, ttl_ms=ttl_ms, stats=stats)

    @pytest.mark.parametrize("jobs", [0, 1, 2, 5], ids=["nothing due", "some", "just the limit", "more"])
    @pytest.mark.parametrize("room", [0, 1, 100], ids=["no room", "room for one", "room"])
    @pytest.mark.parametrize("want_jobs", [True, False], ids=["jobs", "no jobs"])
    async def test_a_tick_starts_the_lease_anew_whatever_it_moves(
        self, kit: Kit, jobs: int, room: int, want_jobs: bool
    ) -> None:
        await kit.lead("me")
        await kit.schedule("later")
        await kit.schedule(*(f"j{i}" for i in range(jobs)), delay_ms=0)
        lease = Lease(kit.queue, "me", 10 * LONG_MS)
        p = await kit.promote(lease, limit=2, max_stream_len=room, want_jobs=want_jobs)
        stats = await kit.backend.stats(kit.queue)
        ok = (stats.lease_remaining_ms or 0) > 5 * LONG_MS
        obliges("Backend.promote", "With `request.renew` the lease restarts.", ok, promotion=p, stats=stats)

    async def _renew(self, kit: Kit, by: str, lease: Lease) -> Any:
        if by.endswith("_many"):
            needs_support(kit, FleetSupport)
        match by:
            case "lock":
                return await kit.lock(lease.holder, lease.ttl_ms)
            case "unlock":
                return await kit.backend.unlock(lease)
            case "promote":
                return await kit.backend.promote(lease, REQUEST)
            case "promote_many":
                return (await kit.backend.promote_many([(lease, REQUEST)]))[0]
            case _:
                return (await kit.backend.renew_many([lease]))[0]
