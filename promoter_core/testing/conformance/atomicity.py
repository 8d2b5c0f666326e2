"""Atomic operations are atomic between processes: two backends share a store, and one is held between two steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ulid import ULID

from promoter_core.spi import Clock, DeadLetterSupport, FleetSupport, JobOutcome, Lease, LeaseLost, StreamName
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit, job
from promoter_core.testing.conformance.interleaving import STEPS, meet
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import CheckedBackend

ONE_HOLDER = "At most one holder at any time."
FENCED = "unless `lease.holder` holds the lock and it has not expired, nothing changes"
EACH = "each atomically, also against `promote`"
REPEAT = "a repeat changes nothing and answers `created=False`"
LOOK = "Return a consistent snapshot of the queue"
JOINED = "return its current members, atomically"

Two = Callable[[], tuple[Kit, Kit]]
AddMalformed = Callable[[str, bytes], Awaitable[None]]


class AtomicityContract(ContractBase):
    """In these tests, `mine` makes the call that is held, and `theirs` makes the calls in between."""

    @pytest.fixture
    def two(self, pair: Any, clock: Clock) -> Two:
        """Return a new queue as two processes see it."""
        first, second = (CheckedBackend(backend) for backend in pair)

        def new() -> tuple[Kit, Kit]:
            mine = Kit(first, clock)
            return mine, mine.other(second)

        return new

    @pytest.mark.parametrize("before", ["free", "ended"])
    async def test_of_two_processes_one_takes_the_lock(self, two: Two, before: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            if before == "ended":
                await mine.lead("before", 1)
                await mine.sleep_ms(3)
            a, b, held = await meet(mine.lock("a"), step, theirs.lock("b"))
            granted = [answer.holder for answer in (a, b) if isinstance(answer, Lease)]
            stats = await theirs.backend.stats(theirs.queue)
            ok = granted == [stats.holder]
            obliges("Backend.lock", ONE_HOLDER, ok, answers=(a, b), holder=stats.holder, held_at_step=step)
            if not held:
                break

    async def test_of_two_processes_that_lock_many_queues_one_takes_each(self, two: Two, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        for step in STEPS:
            mine, theirs = two()
            queues = [mine.queue, *(kit.other().queue for _ in range(2))]
            a, b, held = await meet(
                mine.backend.lock_many(queues, "a", LONG_MS), step, theirs.backend.lock_many(queues[::-1], "b", LONG_MS)
            )
            granted = [
                [answer.holder for answer in pair if isinstance(answer, Lease)]
                for pair in zip(a, reversed(b), strict=True)
            ]
            holders = [[(await theirs.backend.stats(queue)).holder] for queue in queues]
            obliges("Backend.lock", ONE_HOLDER, granted == holders, answers=(a, b), holders=holders, held_at_step=step)
            if not held:
                break

    async def test_a_lock_that_went_to_another_is_not_released(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead("a")
            released, (also, answer), held = await meet(mine.backend.unlock(lease), step, hand_over(theirs, lease))
            stats = await mine.backend.stats(mine.queue)
            seen: dict[str, Any] = {"released": (released, also), "lock": answer, "stats": stats, "held_at_step": step}
            obliges("Backend.unlock", "Never another holder's.", stats.holder == "b", **seen)
            obliges("Backend.unlock", "Returns True when it was released.", released is not also, **seen)
            if not held:
                break

    @pytest.mark.parametrize("by", ["lock", "promote", "renew_many", "promote_many"])
    async def test_a_renewal_takes_no_lock_from_another(self, two: Two, by: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            if by.endswith("_many"):
                needs_support(mine, FleetSupport)
            lease = await mine.lead("a")
            renewal, (_, answer), held = await meet(renewing(mine, lease, by), step, hand_over(theirs, lease))
            stats = await mine.backend.stats(mine.queue)
            holder = "b" if isinstance(answer, Lease) else "a"
            seen = {by: renewal, "lock": answer, "stats": stats, "held_at_step": step}
            obliges("Backend.lock", ONE_HOLDER, stats.holder == holder, **seen)
            if not held:
                break

    @pytest.mark.parametrize("by", ["promote", "promote_many"])
    async def test_nothing_is_promoted_once_another_leads(self, two: Two, by: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            if by.endswith("_many"):
                needs_support(mine, FleetSupport)
            lease = await mine.lead("a")
            await mine.schedule("x", "y", delay_ms=0)

            async def take_over(theirs: Kit = theirs, lease: Lease = lease) -> Any:
                await hand_over(theirs, lease)
                return await theirs.backend.stats(theirs.queue)

            answer, seen, held = await meet(renewing(mine, lease, by), step, take_over())
            after = await mine.backend.stats(mine.queue)
            ok = (after.depth, after.stream_len) == (seen.depth, seen.stream_len)
            said = {by: answer, "when_another_led": seen, "later": after, "held_at_step": step}
            obliges("Backend.promote", FENCED, ok or seen.holder != "b", **said)
            unmoved = after.stream_len == 0
            obliges("Backend.promote", "the answer is `LeaseLost`", isinstance(answer, LeaseLost) is unmoved, **said)
            if not held:
                break

    async def test_two_processes_with_one_lease_promote_each_job_once(self, two: Two) -> None:
        ids = [f"j{i}" for i in range(6)]
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead()
            await mine.schedule(*ids, delay_ms=0)
            a, b, held = await meet(mine.promote(lease, limit=4), step, theirs.promote(lease, limit=4))
            entries = await mine.arrivals()
            seen: dict[str, Any] = {"answers": (a, b), "arrived": [e.id for e in entries], "held_at_step": step}
            ok = sorted(e.id for e in entries) == ids and {a.promoted, b.promoted} == {4, 2}
            obliges("Backend.promote", "in one atomic step", ok, **seen)
            after = "describe the set *after* the move"
            obliges("Backend.promote", after, sorted((a.depth, b.depth)) == [0, 2], **seen)
            places = {j.stream_id for p in (a, b) for j in p.jobs}
            unique = "unique in their stream"
            obliges("Backend.read", unique, len(places) == 6 and places == {e.entry.id for e in entries}, **seen)
            if not held:
                break

    async def test_two_processes_do_not_overfill_the_stream(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead()
            await mine.schedule(*(f"j{i}" for i in range(6)), delay_ms=0)
            calls = [side.promote(lease, max_stream_len=3, limit=2) for side in (mine, theirs)]
            a, b, held = await meet(calls[0], step, calls[1])
            stats = await mine.backend.stats(mine.queue)
            rule = "the stream does not grow beyond `max_stream_len`"
            ok = (stats.stream_len, a.promoted + b.promoted) == (3, 3)
            obliges("Backend.promote", rule, ok, answers=(a, b), stats=stats, held_at_step=step)
            if not held:
                break

    @pytest.mark.parametrize("first", ["cancel", "promote"])
    async def test_a_job_is_cancelled_or_promoted(self, two: Two, first: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead()
            await mine.schedule("a", "b", delay_ms=0)
            if first == "cancel":
                (outcome,), promotion, held = await meet(mine.cancel("a"), step, theirs.promote(lease))
            else:
                promotion, (outcome,), held = await meet(mine.promote(lease), step, theirs.cancel("a"))
            arrived, depth = await mine.arrived(), (await mine.backend.stats(mine.queue)).depth
            removed = outcome is JobOutcome.REMOVED
            ok = (sorted(arrived), depth) == (["b"] if removed else ["a", "b"], 0) and promotion.promoted == 2 - removed
            seen = {"cancel": outcome, "promote": promotion, "arrived": arrived, "depth": depth, "held_at_step": step}
            obliges("Backend.cancel", EACH, ok, **seen)
            if not held:
                break

    async def test_of_two_processes_one_cancels_a_job(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            await mine.schedule("a", "b")
            a, b, held = await meet(mine.cancel("a"), step, theirs.cancel("a"))
            outcomes, stats = sorted((*a, *b)), await mine.backend.stats(mine.queue)
            ok = outcomes == [JobOutcome.NOT_FOUND, JobOutcome.REMOVED] and stats.depth == 1
            obliges("Backend.cancel", EACH, ok, outcomes=(a, b), stats=stats, held_at_step=step)
            if not held:
                break

    async def test_of_two_processes_one_schedules_a_unique_job(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            calls = [side.schedule("a", unique=True, payload=b"%d" % i) for i, side in enumerate((mine, theirs))]
            (a,), (b,), held = await meet(calls[0], step, calls[1])
            stats = await mine.backend.stats(mine.queue)
            ok = a.created is not b.created and stats.depth == 1
            obliges("Backend.schedule", "each atomically", ok, answers=(a, b), stats=stats, held_at_step=step)
            if not held:
                break

    async def test_jobs_that_two_processes_schedule_are_all_kept(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            _, _, held = await meet(mine.schedule("a", "b"), step, theirs.schedule("c", "d"))
            stats = await mine.backend.stats(mine.queue)
            outcomes = await theirs.cancel(*"abcd")
            ok = stats.depth == 4 and set(outcomes) == {JobOutcome.REMOVED}
            seen = {"stats": stats, "outcomes": outcomes, "held_at_step": step}
            obliges("Backend.schedule", "Put jobs into the sorted set, each atomically.", ok, **seen)
            if not held:
                break

    @pytest.mark.parametrize("first", ["schedule", "promote"])
    async def test_the_id_of_a_job_is_taken_while_it_is_promoted(self, two: Two, first: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead()
            await mine.schedule("a", unique=True, delay_ms=0)
            if first == "schedule":
                (again,), promotion, held = await meet(mine.schedule("a", unique=True), step, theirs.promote(lease))
            else:
                promotion, (again,), held = await meet(mine.promote(lease), step, theirs.schedule("a", unique=True))
            stats = await mine.backend.stats(mine.queue)
            ok = (again.created, stats.depth, stats.stream_len) == (False, 0, 1)
            seen = {"repeat": again, "promote": promotion, "stats": stats, "held_at_step": step}
            obliges("Backend.schedule", REPEAT, ok, **seen)
            if not held:
                break

    async def test_a_cancellation_spares_the_id_of_a_job_scheduled_anew(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            await mine.schedule("a", unique=True)

            async def anew(theirs: Kit = theirs) -> Any:
                (outcome,) = await theirs.cancel("a")
                (answer,) = await theirs.schedule("a", unique=True)
                return outcome, answer

            (mine_,), (theirs_, anew_), held = await meet(mine.cancel("a"), step, anew())
            depth = (await mine.backend.stats(mine.queue)).depth
            removed = [mine_, theirs_].count(JobOutcome.REMOVED)
            seen: dict[str, Any] = {"cancel": (mine_, theirs_), "schedule": anew_, "depth": depth, "held_at_step": step}
            obliges("Backend.cancel", EACH, removed + depth == 1 + anew_.created, **seen)
            (again,) = await theirs.schedule("a", unique=True)
            obliges("Backend.schedule", REPEAT, again.created is (depth == 0), repeat=again, **seen)
            if not held:
                break

    async def test_a_repeat_while_the_job_is_cancelled_is_one_or_the_other(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            await mine.schedule("a", unique=True)
            (repeat,), (outcome,), held = await meet(mine.schedule("a", unique=True), step, theirs.cancel("a"))
            depth = (await mine.backend.stats(mine.queue)).depth
            seen = {"repeat": repeat, "cancel": outcome, "depth": depth, "held_at_step": step}
            removed = outcome is JobOutcome.REMOVED
            obliges("Backend.schedule", REPEAT, depth == 1 + repeat.created - removed, **seen)
            if not held:
                break

    async def test_stats_are_of_one_moment(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            lease = await mine.lead()
            await mine.schedule(*"abcd", delay_ms=0)

            async def work(theirs: Kit = theirs, lease: Lease = lease) -> None:
                await theirs.promote(lease, limit=3)
                await theirs.backend.unlock(lease)

            stats, _, held = await meet(mine.backend.stats(mine.queue), step, work())
            ok = stats.depth == stats.due == 4 - stats.stream_len
            obliges("Backend.stats", LOOK, ok, stats=stats, held_at_step=step)
            led = stats.holder is not None
            ok = led is (stats.lease_remaining_ms is not None) and (led or stats.stream_len == 3)
            obliges("Backend.stats", LOOK, ok, stats=stats, held_at_step=step)
            if not held:
                break

    async def test_of_two_processes_that_join_one_knows_the_other(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            needs_support(mine, FleetSupport)
            group = f"group-{ULID()}"
            a, b, held = await meet(
                mine.backend.join_group(group, "a", LONG_MS), step, theirs.backend.join_group(group, "b", LONG_MS)
            )
            both = frozenset("ab")
            seen = {"answers": (a, b), "held_at_step": step}
            obliges("FleetSupport.join_group", JOINED, both in (a.names, b.names), **seen)
            later = await mine.backend.join_group(group, "a", LONG_MS)
            obliges("FleetSupport.join_group", JOINED, later.names == both, later=later, **seen)
            if not held:
                break

    async def test_a_process_that_leaves_takes_nobody_along(self, two: Two) -> None:
        for step in STEPS:
            mine, theirs = two()
            needs_support(mine, FleetSupport)
            group = f"group-{ULID()}"
            for member in "abc":
                await mine.backend.join_group(group, member, LONG_MS)

            async def come_and_go(theirs: Kit = theirs, group: str = group) -> None:
                await theirs.backend.leave_group(group, "b")
                await theirs.backend.join_group(group, "d", LONG_MS)

            _, _, held = await meet(mine.backend.leave_group(group, "a"), step, come_and_go())
            later = await mine.backend.join_group(group, "c", LONG_MS)
            obliges("FleetSupport.leave_group", "Leave a group.", later.names == set("cd"), members=later)
            if not held:
                break

    @pytest.mark.parametrize("other", ["requeue", "delete"])
    async def test_a_dead_letter_is_moved_once(self, two: Two, add_malformed: AddMalformed, other: str) -> None:
        for step in STEPS:
            mine, theirs = two()
            needs_support(mine, DeadLetterSupport)
            await add_malformed(mine.queue, b"\0")
            await mine.promote(await mine.lead())
            entries = await mine.entries(StreamName.DLQ)
            said = "Move a DLQ entry to the stream, atomically, with this envelope and name."
            where = "DeadLetterSupport.requeue_dead_letter"
            obliges(where, said, len(entries) == 1, dead_letters=entries)
            envelope = job("a").envelope
            again = (
                theirs.backend.requeue_dead_letter(theirs.queue, entries[0].id, envelope, "")
                if other == "requeue"
                else theirs.backend.delete_dead_letters(theirs.queue, [entries[0].id])
            )
            a, b, held = await meet(
                mine.backend.requeue_dead_letter(mine.queue, entries[0].id, envelope, ""), step, again
            )
            stats = await mine.backend.stats(mine.queue)
            ok = a + b == 1 and (stats.dlq_len, stats.stream_len) == (0, 1 if other == "requeue" else int(a))
            obliges(where, said, ok, answers=(a, b), stats=stats, held_at_step=step)
            if not held:
                break


async def hand_over(theirs: Kit, lease: Lease) -> tuple[bool, Any]:
    """Release a lock held by another, and acquire it as "b"."""
    released: bool = await theirs.backend.unlock(lease)
    return released, await theirs.lock("b")


async def renewing(mine: Kit, lease: Lease, by: str) -> Any:
    """Make the call `by`, which restarts the lease, and return its answer."""
    match by:
        case "lock":
            return await mine.lock(lease.holder)
        case "promote":
            return await mine.backend.promote(lease, REQUEST)
        case "promote_many":
            return (await mine.backend.promote_many([(lease, REQUEST)]))[0]
        case _:
            return (await mine.backend.renew_many([lease]))[0]
