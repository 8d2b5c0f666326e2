"""Races of changes with promotions and other changes, in two processes, and changes that are cancelled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from promoter_core.spi import JobChange, JobOutcome, Remove, Replace, Reschedule, RunNow
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.cancellation import HALF, Cuts, cut_off
from promoter_core.testing.conformance.harness import job
from promoter_core.testing.conformance.interleaving import STEPS, cancellations, failures, meet
from promoter_core.testing.conformance.managed import FAR_MS, Managed, ManagedFixtures, TwoManaged, payload_of
from promoter_core.testing.conformance.obligations import obliges

CHANGE = "ManagementSupport.change_jobs"
ATOMIC = "Make changes, each atomically, also against `promote`."
NOT_LOST = "A job is moved, promoted, replaced or removed while it waits, or not at all: it is never lost"
TWICE = "it is never lost or promoted twice"
BOUND = "The stream does not grow beyond `max_stream_len`."
CREATED, MOVED, PROMOTED, REMOVED = JobOutcome.CREATED, JobOutcome.MOVED, JobOutcome.PROMOTED, JobOutcome.REMOVED
ALREADY, NOT_FOUND, REPLACED = JobOutcome.ALREADY_PROMOTED, JobOutcome.NOT_FOUND, JobOutcome.REPLACED
KEPT = JobOutcome.KEPT

CHANGES: dict[str, Callable[[Any], JobChange]] = {  # changes of job "a", by its id or as a StoredJob
    "move": lambda which: Reschedule(job=which, due_ms=FAR_MS + 1),
    "run": lambda which: RunNow(job=which),
    "remove": lambda which: Remove(job=which),
    "replace": lambda which: Replace(request=job("a", payload=b"new", due_ms=FAR_MS + 2, unique=True)),
    "replace, due": lambda which: Replace(request=job("a", payload=b"new", delay_ms=0, unique=True), keep_due=True),
}


class RacesContract(ManagedFixtures, ContractBase):
    """In these tests, `mine` makes the call that is held, and `theirs` makes the call in between."""

    @pytest.fixture(params=[cancellations, failures], ids=["cancelled", "failed"])
    def cuts(self, request: pytest.FixtureRequest) -> Cuts:
        cuts: Cuts = request.param
        return cuts

    @pytest.mark.parametrize("first", ["change", "promote"])
    @pytest.mark.parametrize("name", CHANGES)
    async def test_a_job_is_changed_or_promoted(self, two_managed: TwoManaged, name: str, first: str) -> None:
        for mine, theirs, step in _rounds(two_managed):
            lease = await mine.lead()
            await mine.schedule("a", delay_ms=0, unique=True, payload=b"old")
            change = CHANGES[name]("a")
            calls: list[Coroutine[Any, Any, Any]] = [mine.change(change), theirs.promote(lease)]
            if first == "promote":
                calls[0].close()
                calls[1].close()
                p, (outcome,), held = await meet(mine.promote(lease), step, theirs.change(change))
            else:
                (outcome,), p, held = await meet(calls[0], step, calls[1])
            (depth, _), payloads = await mine.left(), [a.envelope.payload for a in await mine.arrivals()]
            seen = {name: outcome, "promote": p, "arrived": payloads, "depth": depth, "held_at_step": step}
            possible: dict[str, set[tuple[JobOutcome, tuple[bytes, ...], int]]] = {
                "move": {(MOVED, (), 1), (ALREADY, (b"old",), 0)},
                "run": {(PROMOTED, (b"old",), 0), (ALREADY, (b"old",), 0)},
                "remove": {(REMOVED, (), 0), (ALREADY, (b"old",), 0)},
                "replace": {(REPLACED, (), 1), (CREATED, (b"old",), 1)},
                "replace, due": {(REPLACED, (b"new",), 0), (REPLACED, (), 1), (ALREADY, (b"old",), 0)},
            }
            obliges(CHANGE, NOT_LOST, (outcome, tuple(payloads), depth) in possible[name], **seen)
            events = [event["id"] for event in await mine.events()]
            obliges(CHANGE, TWICE, events == ["a"] * len(payloads), events=events, **seen)
            if depth:
                (repeat,), cancelled = await theirs.schedule("a", unique=True), await theirs.cancel("a", "a")
                ok = repeat.outcome is KEPT and cancelled[0] is REMOVED and cancelled[1] is NOT_FOUND
                obliges(CHANGE, ATOMIC, ok, repeat=repeat, cancelled=cancelled, **seen)
            elif outcome is not REMOVED:
                (repeat,) = await theirs.schedule("a", unique=True)
                obliges(CHANGE, "The id stays taken", repeat.outcome is ALREADY, repeat=repeat, **seen)
            if not held:
                break

    @pytest.mark.parametrize("by", ["id", "handle"])
    async def test_of_two_processes_one_runs_a_job_now(self, two_managed: TwoManaged, by: str) -> None:
        for unique in (True, False):
            for mine, theirs, step in _rounds(two_managed):
                await mine.schedule("a", due_ms=FAR_MS, unique=unique)
                which = await theirs.get("a") if by == "handle" else "a"
                (a,), (b,), held = await meet(mine.change(RunNow(job=which)), step, theirs.change(RunNow(job=which)))
                left, events = await mine.left(), await mine.events()
                seen = {"outcomes": (a, b), "depth_and_stream": left, "events": events, "held_at_step": step}
                ok = {a, b} == {PROMOTED, ALREADY if unique else NOT_FOUND} and left == (0, 1) and len(events) == 1
                obliges(CHANGE, TWICE, ok, unique=unique, **seen)
                if not held:
                    break

    async def test_two_processes_that_run_jobs_now_do_not_overfill_the_stream(self, two_managed: TwoManaged) -> None:
        for mine, theirs, step in _rounds(two_managed):
            await mine.schedule("a", "b", "full", due_ms=FAR_MS)
            await mine.change(RunNow(job="full"))
            (a,), (b,), held = await meet(
                mine.change(RunNow(job="a", max_stream_len=2)), step, theirs.change(RunNow(job="b", max_stream_len=2))
            )
            left = await mine.left()
            ok = {a, b} == {PROMOTED, MOVED} and left == (1, 2)
            obliges(CHANGE, BOUND, ok, outcomes=(a, b), depth_and_stream=left, held_at_step=step)
            if not held:
                break

    async def test_a_promotion_and_a_run_do_not_overfill_the_stream(self, two_managed: TwoManaged) -> None:
        for mine, theirs, step in _rounds(two_managed):
            lease = await mine.lead()
            await mine.schedule("due", delay_ms=0)
            await mine.schedule("a", due_ms=FAR_MS)
            (a,), p, held = await meet(
                mine.change(RunNow(job="a", max_stream_len=1)), step, theirs.promote(lease, max_stream_len=1)
            )
            left = await mine.left()
            ok = left == (1, 1) and p.promoted + (a is PROMOTED) == 1
            obliges(CHANGE, BOUND, ok, outcome=a, promotion=p, depth_and_stream=left, held_at_step=step)
            if not held:
                break

    @pytest.mark.parametrize("second", CHANGES)
    @pytest.mark.parametrize("first", CHANGES)
    async def test_two_changes_of_one_job_take_effect_one_after_the_other(
        self, two_managed: TwoManaged, first: str, second: str
    ) -> None:
        for mine, theirs, step in _rounds(two_managed):
            await mine.schedule("a", due_ms=FAR_MS, unique=True, payload=b"old")
            changes = CHANGES[first]("a"), CHANGES[second]("a")
            (a,), (b,), held = await meet(mine.change(changes[0]), step, theirs.change(changes[1]))
            state = await _state(mine)
            possible = [_after(first, second), tuple(reversed(_after(second, first)[:2])) + _after(second, first)[2:]]
            seen = {"changes": (first, second), "outcomes": (a, b), "waiting_and_stream": state, "held_at_step": step}
            obliges(CHANGE, ATOMIC, (a, b, *state) in possible, possible=possible, **seen)
            waits = bool(state[0])
            cancelled = await theirs.cancel("a", "a")
            ok = (cancelled[0] is REMOVED) is waits and await mine.left() == (0, len(state[1]))
            obliges(CHANGE, ATOMIC, ok, cancelled=cancelled, depth_and_stream=await mine.left(), **seen)
            if not held:
                break

    async def test_a_job_is_moved_or_cancelled(self, two_managed: TwoManaged) -> None:
        for mine, theirs, step in _rounds(two_managed):
            await mine.schedule("a", due_ms=FAR_MS, unique=True)
            (a,), (b,), held = await meet(mine.change(Reschedule(job="a", due_ms=FAR_MS + 1)), step, theirs.cancel("a"))
            left = await mine.left()
            (anew,) = await mine.schedule("a", unique=True)
            ok = b is REMOVED and a in (MOVED, NOT_FOUND) and left == (0, 0) and anew.outcome is CREATED
            obliges(CHANGE, ATOMIC, ok, outcomes=(a, b), left=left, scheduled_again=anew, held_at_step=step)
            if not held:
                break

    async def test_a_repeat_while_the_job_is_changed_is_one_or_the_other(self, two_managed: TwoManaged) -> None:
        for name in CHANGES:
            for mine, theirs, step in _rounds(two_managed):
                await mine.schedule("a", due_ms=FAR_MS, unique=True, payload=b"old")
                (outcome,), (repeat,), held = await meet(
                    mine.change(CHANGES[name]("a")), step, theirs.schedule("a", unique=True, payload=b"repeat")
                )
                waiting, stream = await _state(mine)
                seen = {name: outcome, "repeat": repeat, "waiting_and_stream": (waiting, stream), "held_at_step": step}
                jobs = len(waiting) + len(stream)
                right = {"run": {KEPT, ALREADY}, "remove": {KEPT, CREATED}}.get(name, {KEPT})
                ok = repeat.outcome in right and jobs == (repeat.created if name == "remove" else 1)
                obliges(CHANGE, ATOMIC, ok, **seen)
                if not held:
                    break

    async def test_of_two_processes_that_replace_a_job_that_is_not_there_one_creates_it(
        self, two_managed: TwoManaged
    ) -> None:
        """A debounce: both requests arrive at the same time, and one job waits."""
        for mine, theirs, step in _rounds(two_managed):
            requests = [job("a", payload=payload, due_ms=FAR_MS, unique=True) for payload in (b"1", b"2")]
            (a,), (b,), held = await meet(
                mine.change(Replace(request=requests[0], search=False)),
                step,
                theirs.change(Replace(request=requests[1], search=False)),
            )
            waiting, _ = await _state(mine)
            last = b"2" if a is CREATED else b"1"
            ok = {a, b} == {CREATED, REPLACED} and waiting == ((last, FAR_MS),)
            obliges(
                "Replace",
                "if there is none, schedule `request`.",
                ok,
                outcomes=(a, b),
                waiting=waiting,
                held_at_step=step,
            )
            if not held:
                break

    async def test_a_stored_job_that_was_replaced_meanwhile_is_left_alone(self, two_managed: TwoManaged) -> None:
        for name in ("move", "run", "remove"):
            for mine, theirs, step in _rounds(two_managed):
                await mine.schedule("a", due_ms=FAR_MS, payload=b"old")
                shown = await mine.get("a")
                (a,), (b,), held = await meet(
                    mine.change(CHANGES[name](shown)), step, theirs.change(CHANGES["replace"](None))
                )
                state = await _state(mine)
                new = ((b"new", FAR_MS + 2),)
                right = {
                    (NOT_FOUND, REPLACED, new, ()),
                    {
                        "move": (MOVED, REPLACED, new, ()),
                        "run": (PROMOTED, CREATED, new, (b"old",)),
                        "remove": (REMOVED, CREATED, new, ()),
                    }[name],
                }
                seen = {name: a, "replace": b, "waiting_and_stream": state, "held_at_step": step}
                obliges(CHANGE, ATOMIC, (a, b, *state) in right, **seen)
                if not held:
                    break

    async def test_of_many_changes_at_once_no_job_is_lost_or_doubled(self, two_managed: TwoManaged) -> None:
        """By id, every job that was created is waiting, in the stream, or removed."""
        mine, theirs = two_managed()
        lease, dice = await mine.lead(), random.Random(13)  # noqa: S311  # no secret
        ids = [f"j{i:02}" for i in range(24)]
        await mine.schedule(*ids, delay_ms=0, unique=True)
        await mine.schedule(*ids[::2], due_ms=FAR_MS, unique=True)  # repeats
        made = Counter(ids)

        async def change(kit: Managed, id: str) -> None:
            new: JobChange = dice.choice(
                (
                    Reschedule(job=id, delay_ms=0),
                    Reschedule(job=id, due_ms=FAR_MS),
                    RunNow(job=id),
                    Remove(job=id),
                    Replace(request=job(id, payload=b"%d" % dice.getrandbits(60), delay_ms=0, unique=True)),
                    Replace(request=job(id, due_ms=FAR_MS, unique=True), keep_data=True),
                )
            )
            outcomes[id].append((await kit.change(new))[0])

        async def promote(kit: Managed) -> None:
            ticks.append((await kit.promote(lease, limit=5)).promoted)

        outcomes: dict[str, list[JobOutcome]] = {id: [] for id in ids}
        ticks: list[int] = []
        for _ in range(4):
            calls = [change(dice.choice((mine, theirs)), id) for id in ids for _ in range(2)]
            calls += [promote(dice.choice((mine, theirs))) for _ in range(4)]
            dice.shuffle(calls)
            await asyncio.gather(*calls)
        arrived, waiting = Counter(await mine.arrived()), Counter(await mine.listed())
        for id in ids:
            said = Counter(outcomes[id])
            ends = arrived[id] + waiting[id] + said[REMOVED]
            ok = ends == made[id] + said[CREATED] and waiting[id] <= 1
            seen = {"outcomes": outcomes[id], "in_the_stream": arrived[id], "waiting": waiting[id]}
            obliges(CHANGE, NOT_LOST, ok, id=id, **seen)
        ran = sum(those.count(PROMOTED) for those in outcomes.values())
        ok = sum(arrived.values()) == ran + sum(ticks)
        obliges(CHANGE, TWICE, ok, in_the_stream=sum(arrived.values()), run_now=ran, promoted=sum(ticks))

    @pytest.mark.parametrize("name", CHANGES)
    async def test_a_change_that_is_cut_is_done_or_not(self, managed: Managed, cuts: Cuts, name: str) -> None:
        old, new = ((b"old", FAR_MS),), ((b"new", FAR_MS + 2),)
        done: tuple[Any, Any] = {
            "move": (((b"old", FAR_MS + 1),), ()),
            "run": ((), (b"old",)),
            "remove": ((), ()),
            "replace": (new, ()),
            "replace, due": (((b"new", FAR_MS),), ()),
        }[name]
        queues = await cut_off(
            managed,
            cuts,
            lambda k: k.change(CHANGES[name]("a")),
            before=lambda k: k.schedule("a", due_ms=FAR_MS, unique=True, payload=b"old", keep_id_ms=86_400_000),
        )
        for n, k in enumerate(queues):
            state = await _state(k)
            seen: dict[str, Any] = {"change": name, "waiting_and_stream": state, "cut": n}
            obliges("Backend", HALF, state in ((old, ()), done), **seen)
            events = [event["id"] for event in await k.events()]
            obliges("Backend", HALF, events == ["a"] * len(state[1]), events=events, **seen)
            found, (repeat,) = await k.waits("a"), await k.schedule("a", unique=True)
            right = KEPT if state[0] else ALREADY if state[1] else CREATED
            obliges("Backend", HALF, found is bool(state[0]) and repeat.outcome is right, repeat=repeat, **seen)
            outcomes = list(await k.cancel("a", "a"))
            right_outcomes = [ALREADY, ALREADY] if state[1] else [REMOVED, NOT_FOUND]
            ok = outcomes == right_outcomes and (await k.left())[0] == 0
            obliges("Backend", HALF, ok, cancelled=outcomes, left=await k.left(), **seen)

    async def test_a_job_whose_creation_is_cut_is_there_or_not(self, managed: Managed, cuts: Cuts) -> None:
        request = job("a", payload=b"new", due_ms=FAR_MS, unique=True)
        queues = await cut_off(managed, cuts, lambda k: k.change(Replace(request=request)))
        for n, k in enumerate(queues):
            depth, _ = await k.left()
            (repeat,) = await k.schedule("a", unique=True, payload=b"new", due_ms=FAR_MS)
            outcomes = list(await k.cancel("a", "a"))
            ok = repeat.outcome is (KEPT if depth else CREATED) and outcomes == [REMOVED, NOT_FOUND]
            left = await k.left()
            obliges("Backend", HALF, ok and left == (0, 0), depth=depth, repeat=repeat, cancelled=outcomes, cut=n)

    async def test_of_many_changes_each_is_done_or_not(self, managed: Managed, cuts: Cuts) -> None:
        ids = [f"j{i}" for i in range(6)]
        changes: list[JobChange] = [
            *(RunNow(job=id) for id in ids[:2]),
            *(Remove(job=id) for id in ids[2:4]),
            *(Reschedule(job=id, due_ms=FAR_MS + 1) for id in ids[4:]),
        ]
        queues = await cut_off(
            managed, cuts, lambda k: k.change(*changes), lambda k: k.schedule(*ids, due_ms=FAR_MS, unique=True)
        )
        for n, k in enumerate(queues):
            outcomes = await k.change(*changes)
            right = [{PROMOTED, ALREADY}] * 2 + [{REMOVED, NOT_FOUND}] * 2 + [{MOVED}] * 2
            arrived, listed = await k.arrived(), await k.walk()
            ok = all(outcome in those for outcome, those in zip(outcomes, right, strict=True))
            ok = (
                ok
                and sorted(arrived) == ids[:2]
                and {j.id: j.due_ms for j in listed} == dict.fromkeys(ids[4:], FAR_MS + 1)
            )
            obliges("Backend", HALF, ok, again=outcomes, arrived=arrived, listed=listed, cut=n)


def _rounds(two: TwoManaged) -> Iterator[tuple[Managed, Managed, int]]:
    for step in STEPS:
        yield (*two(), step)


async def _state(kit: Managed) -> tuple[tuple[tuple[bytes, int | None], ...], tuple[bytes, ...]]:
    """Return the payloads and due times of waiting jobs, and the payloads in the stream."""
    waiting = tuple((payload_of(j), j.due_ms) for j in await kit.walk())
    return waiting, tuple(a.envelope.payload for a in await kit.arrivals())


def _after(first: str, second: str) -> tuple[Any, ...]:
    """Return both outcomes, the waiting jobs and the stream, when one change follows the other."""
    waiting: tuple[tuple[bytes, int], ...] = ((b"old", FAR_MS),)
    stream: tuple[bytes, ...] = ()
    outcomes = []
    for name in (first, second):
        if not waiting and name != "replace":
            outcomes.append(ALREADY if stream else NOT_FOUND)
            continue
        match name:
            case "move":
                waiting = ((waiting[0][0], FAR_MS + 1),)
                outcomes.append(MOVED)
            case "run":
                stream, waiting = (waiting[0][0],), ()
                outcomes.append(PROMOTED)
            case "remove":
                waiting = ()
                outcomes.append(REMOVED)
            case "replace":
                outcomes.append(REPLACED if waiting else CREATED)
                waiting = ((b"new", FAR_MS + 2),)
            case _:
                waiting = ((b"new", waiting[0][1]),)
                outcomes.append(REPLACED)
    return outcomes[0], outcomes[1], waiting, stream
