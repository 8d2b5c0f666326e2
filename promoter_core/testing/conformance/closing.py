"""After close: every method refuses, all waits and feeds end, and other backends are not affected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from promoter_core.spi import (
    ChangeKind,
    Clock,
    FleetSupport,
    JobQuery,
    Lease,
    PromotedJob,
    Promotion,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StreamName,
    TransientError,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support, needs_wake
from promoter_core.testing.conformance.harness import LONG_MS, REQUEST, Kit, job
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.conformance.shape_checks import REQUIRED, CheckedBackend
from promoter_core.testing.conformance.waiting import PATIENT_S
from promoter_core.testing.forward import offered

CLOSED = "Afterwards every method except `open` and `close` raises TransientError."
PROMOTED = PromotedJob("a", "", due_ms=1_000, promoted_ms=1_001, stream_id="1001-0")


async def _first_page(backend: Any, queue: str) -> None:
    async for _ in backend.find_queues([queue]):
        return


CALLS: dict[str, tuple[Callable[[Any, str], Awaitable[Any]], ...]] = {  # calls of each method, with valid arguments
    "lock": (lambda b, q: b.lock(q, "me", LONG_MS),),
    "promote": (lambda b, q: b.promote(Lease(q, "leader", LONG_MS), REQUEST),),
    "unlock": (lambda b, q: b.unlock(Lease(q, "leader", LONG_MS)),),
    "wait": tuple(
        lambda b, q, change=change, s=s: b.wait(q, change, s)  # type: ignore[misc]
        for change in (ChangeKind.JOBS, ChangeKind.LOCK)
        for s in (0.0, 60.0)
    ),
    "schedule": (
        lambda b, q: b.schedule(q, [job("b", delay_ms=LONG_MS)]),
        lambda b, q: b.schedule(q, [job("b", delay_ms=0, unique=True)]),
    ),
    "cancel": (lambda b, q: b.cancel(q, ["a"]),),
    "stats": (lambda b, q: b.stats(q),),
    "read": tuple(lambda b, q, name=name: b.read(q, name, "", 1) for name in StreamName),  # type: ignore[misc]
    "cleanup": (lambda b, q: b.cleanup(q, [PROMOTED]),),
    "emit": (lambda b, q: b.emit(q, [PROMOTED], 100),),
    "lock_many": (lambda b, q: b.lock_many([q], "me", LONG_MS),),
    "promote_many": (lambda b, q: b.promote_many([(Lease(q, "leader", LONG_MS), REQUEST)]),),
    "renew_many": (lambda b, q: b.renew_many([Lease(q, "leader", LONG_MS)]),),
    "subscribe": (lambda b, q: b.subscribe(),),
    "find_queues": (_first_page,),
    "announce": (lambda b, q: b.announce([q]),),
    "join_group": (lambda b, q: b.join_group(q, "me", LONG_MS),),
    "leave_group": (lambda b, q: b.leave_group(q, "me"),),
    "get_jobs": (lambda b, q: b.get_jobs(q, ["a"]),),
    "list_jobs": (lambda b, q: b.list_jobs(q, JobQuery()),),
    "count_jobs": (lambda b, q: b.count_jobs(q, [1_000]),),
    "change_jobs": tuple(
        lambda b, q, change=change: b.change_jobs(q, [change])  # type: ignore[misc]
        for change in (
            Reschedule(job="a", delay_ms=LONG_MS),
            RunNow(job="a"),
            Remove(job="a"),
            Replace(request=job("a", delay_ms=LONG_MS, unique=True)),
        )
    ),
    "requeue_dead_letter": (lambda b, q: b.requeue_dead_letter(q, "1001-0", job("a").envelope, ""),),
    "delete_dead_letters": (lambda b, q: b.delete_dead_letters(q, ["1001-0"]),),
    "diagnose": (lambda b, q: b.diagnose(),),
}


class ClosingContract(ContractBase):
    async def test_after_close_every_method_refuses(self, kit: Kit) -> None:
        await kit.schedule("a")
        await kit.lead()
        await kit.backend.close()
        methods = [name for name in [*REQUIRED, *offered(kit.backend.inner)] if name in CALLS]
        outcomes: dict[str, list[Any]] = {}
        for name in methods:
            calls = [asyncio.ensure_future(call(kit.backend, kit.queue)) for call in CALLS[name]]
            await asyncio.wait(calls, timeout=PATIENT_S)
            for call in calls:
                call.cancel()
            outcomes[name] = await asyncio.gather(*calls, return_exceptions=True)
        wrong = {
            name: answers
            for name, answers in outcomes.items()
            if not all(isinstance(answer, TransientError) for answer in answers)
        }
        obliges("Backend.close", CLOSED, not wrong, answers_of_those_that_do_not=wrong)

    async def test_closing_ends_every_wait(self, kit: Kit) -> None:
        led, followed = kit.other(), kit.other()
        await led.promote(await led.lead())
        await followed.lead("other")
        await followed.backend.lock(followed.queue, "me", LONG_MS)
        waits = [
            asyncio.ensure_future(k.backend.wait(k.queue, change, 600.0))
            for k, change in ((led, ChangeKind.JOBS), (followed, ChangeKind.LOCK))
            for _ in range(2)
        ]
        await kit.sleep_ms(20)
        began_s = kit.clock.monotonic()
        await kit.backend.close()
        done, under_way = await asyncio.wait(waits, timeout=PATIENT_S)
        for wait in under_way:
            wait.cancel()
        rule = "A pending `wait` returns or raises TransientError."
        in_time = kit.clock.monotonic() - began_s < PATIENT_S
        ended = [in_time and wait in done for wait in waits]
        obliges("Backend.close", rule, all(ended), ended_of_two_leaders_and_two_followers=ended)
        answers = await asyncio.gather(*waits, return_exceptions=True)
        right = all(isinstance(answer, bool | TransientError) for answer in answers)
        obliges("Backend.close", rule, right, answers=answers)

    async def test_closing_ends_a_feed(self, kit: Kit) -> None:
        needs_support(kit, FleetSupport)
        rule = "after the backend is closed it reports that everything changed"
        feed, idle = await kit.backend.subscribe(), await kit.backend.subscribe()
        for _ in range(20):  # what subscribing may have caused
            if not (await feed.next(0.02)).everything:
                break
        telling = asyncio.ensure_future(feed.next(600.0))
        await kit.sleep_ms(20)
        began_s = kit.clock.monotonic()
        await kit.backend.close()
        done, _ = await asyncio.wait((telling,), timeout=PATIENT_S)
        telling.cancel()
        in_time = bool(done) and kit.clock.monotonic() - began_s < PATIENT_S
        obliges("ChangeFeed.next", rule, in_time, told="nothing, for several seconds")
        changes = await asyncio.gather(telling, return_exceptions=True)
        obliges("ChangeFeed.next", rule, getattr(changes[0], "everything", False), told=changes[0])
        changes = await asyncio.gather(idle.next(0.0), return_exceptions=True)
        everything = getattr(changes[0], "everything", False)
        obliges("ChangeFeed.next", rule, everything, told_by_a_feed_that_nobody_read=changes[0])
        feed.close()
        idle.close()

    async def test_closing_one_backend_leaves_the_others_alone(self, kit: Kit, pair: Any, clock: Clock) -> None:
        rule = "Other backends on the same store keep working."
        theirs = kit.other(CheckedBackend(pair[1]))
        await kit.schedule("a")
        lease = await theirs.lead("other")
        await theirs.promote(lease)
        await kit.backend.close()
        answers: list[Any] = []
        calls: tuple[Callable[[], Awaitable[Any]], ...] = (
            lambda: theirs.backend.stats(theirs.queue),
            lambda: theirs.schedule("now", delay_ms=0),
            lambda: theirs.backend.promote(lease, REQUEST),
        )
        for call in calls:
            answers += await asyncio.gather(call(), return_exceptions=True)
            raised = isinstance(answers[-1], BaseException)
            obliges("Backend.close", rule, not raised, what_another_backend_answered=answers)
        stats, _, p = answers
        kept = (stats.depth, stats.holder) == (1, "other") and isinstance(p, Promotion) and p.promoted == 1
        obliges("Backend.close", rule, kept, what_another_backend_answered=answers)

    async def test_waits_and_feeds_go_on_when_another_backend_closes(self, kit: Kit, pair: Any, clock: Clock) -> None:
        rule = "Other backends on the same store keep working."
        theirs = kit.other(CheckedBackend(pair[1]))
        needs_wake(theirs)
        feed: Any = await theirs.backend.subscribe() if isinstance(theirs.backend, FleetSupport) else None
        lease = await theirs.lead("other")
        await kit.backend.close()
        for _ in range(20):  # the other's end may wake
            await theirs.promote(lease)
            if not await theirs.backend.wait(theirs.queue, ChangeKind.JOBS, 0.05):
                break
        for _ in range(20):
            if feed is None or not (await feed.next(0.05)).everything:
                break
        waiting = asyncio.ensure_future(theirs.backend.wait(theirs.queue, ChangeKind.JOBS, PATIENT_S))
        await kit.sleep_ms(20)
        began_s = clock.monotonic()
        await theirs.schedule("near", delay_ms=LONG_MS // 2)
        woken = await waiting and clock.monotonic() - began_s < PATIENT_S
        obliges("Backend.close", rule, woken, the_wait_of_another_was_woken=woken)
        heard = feed is None
        for _ in range(50):
            if heard:
                break
            changes = await feed.next(0.1)
            heard = changes.everything or theirs.queue in changes.jobs
        obliges("Backend.close", rule, heard, the_feed_of_another_has_told=heard)
        if feed is not None:
            feed.close()
