"""Random programs, run by a backend and by the memory backend side by side: every answer and the final state agree."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promoter_core import connect
from promoter_core.spi import (
    KEEP_ID_MS,
    JobChange,
    JobQuery,
    JobRequest,
    Lease,
    LeaseLost,
    ManagementSupport,
    Overflow,
    Promotion,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    Scheduled,
    StoredJob,
)
from promoter_core.testing.conformance.base import ContractBase, needs_support
from promoter_core.testing.conformance.harness import LONG_MS, Kit, job

SOON_MS = 5  # nothing looks before it is over
DELAYS_MS = {"now": 0, "soon": SOON_MS, "far": LONG_MS, "further": 3 * LONG_MS}


@dataclass(frozen=True)
class Schedule:
    ids: tuple[str, ...]  # unique ids; "" stands for another id
    when: str  # "now", "soon" (after which time passes), "far"
    name: str
    index: bool
    keep_id_ms: int = KEEP_ID_MS


@dataclass(frozen=True)
class Cancel:
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Tick:
    holder: str
    limit: int
    cap: int
    overflow: Overflow
    events: bool


@dataclass(frozen=True)
class TakeLock:
    holder: str


@dataclass(frozen=True)
class ReleaseLock:
    holder: str


@dataclass(frozen=True)
class Change:
    """A change of a waiting job, by its id or by the StoredJob read at the start of the step."""

    what: str  # "move", "run", "remove", "replace"
    id: str
    when: str
    by_itself: bool
    keeps: tuple[bool, bool, bool]  # data, name, due time
    cap: int
    events: bool
    keep_id_ms: int


@dataclass(frozen=True)
class Look:
    limit: int
    reverse: bool
    name: str | None
    bounds: tuple[str | None, str | None]


Step = Schedule | Cancel | Tick | TakeLock | ReleaseLock | Change | Look

_ids = st.sampled_from(["a", "b", "c", "ü", "x" * 40])
_holders = st.sampled_from(["one", "two"])
_steps = st.one_of(
    st.builds(
        Schedule,
        st.lists(_ids | st.just(""), min_size=1, max_size=4).map(tuple),
        st.sampled_from(["now", "soon", "soon", "far"]),
        st.sampled_from(["", "n", "näme"]),
        st.booleans(),
        st.sampled_from([KEEP_ID_MS, KEEP_ID_MS, 0]),
    ),
    st.builds(Cancel, st.lists(_ids, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Tick,
        _holders,
        st.integers(1, 4),
        st.sampled_from([1, 3, 1000, 1000]),
        st.just(Overflow.HOLD),  # TRIM keeps an approximate number
        st.booleans(),
    ),
    st.builds(TakeLock, _holders),
    st.builds(ReleaseLock, _holders),
)
_whens = st.sampled_from(["now", "soon", "far", "further"])
_changes = st.one_of(
    _steps,
    st.builds(
        Change,
        st.sampled_from(["move", "run", "remove", "replace", "replace"]),
        _ids,
        _whens,
        st.booleans(),
        st.tuples(st.booleans(), st.booleans(), st.booleans()),
        st.sampled_from([0, 1, 3, 1000, 1000]),
        st.booleans(),
        st.sampled_from([KEEP_ID_MS, 0]),
    ),
    st.builds(
        Look,
        st.integers(1, 5),
        st.booleans(),
        st.sampled_from([None, None, "", "n", "näme"]),
        st.tuples(st.none() | st.just("far"), st.none() | st.just("far")),
    ),
)


class RandomProgramsContract(ContractBase):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(program=st.lists(_steps, min_size=1, max_size=12))
    async def test_random_programs_agree_with_the_memory_backend(self, kit: Kit, program: list[Step]) -> None:
        await self._agree(kit, program)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(program=st.lists(_changes, min_size=1, max_size=12))
    async def test_random_programs_with_changes_agree_with_the_memory_backend(
        self, kit: Kit, program: list[Step]
    ) -> None:
        needs_support(kit, ManagementSupport)
        await self._agree(kit, program)

    async def _agree(self, kit: Kit, program: list[Step]) -> None:
        async with connect("memory://", clock=kit.clock) as model:
            theirs, ours = kit.other(), Kit(model, kit.clock)
            serial = 0
            for number, step in enumerate(program):
                answers = await asyncio.gather(*(run(side, step, serial) for side in (theirs, ours)))
                serial += len(step.ids) if isinstance(step, Schedule) else 1
                if answers[0] != answers[1]:
                    raise AssertionError(
                        f"step {number + 1} of the program, {step}: "
                        f"the backend answered {answers[0]}, the model {answers[1]}"
                    )
            states = [await final(side) for side in (theirs, ours)]
        if states[0] != states[1]:
            raise AssertionError(f"after {program} the backend holds {states[0]}, the model {states[1]}")


async def run(kit: Kit, step: Step, serial: int) -> Any:
    """Return the answer of a step without the parts that may differ: times and stream ids."""
    match step:
        case Schedule(ids, when, name, index, keep_id_ms):
            base_ms = DELAYS_MS[when]
            requests = [
                job(
                    id or f"own-{serial + i}",
                    payload=b"%d" % (serial + i),  # all members differ
                    delay_ms=base_ms + i * (when != "now"),
                    unique=bool(id),
                    name=name,
                    index=index,
                    keep_id_ms=keep_id_ms,
                )
                for i, id in enumerate(ids)
            ]
            if when == "now":  # a millisecond apart, because the order of equal due times is the backend's choice
                answers = [await _at_once(kit, request) for request in requests]
            else:
                answers = await kit.backend.schedule(kit.queue, requests)
            if when == "soon":
                await kit.sleep_ms(SOON_MS + len(ids) + 5)
            return [(a.id, a.outcome) for a in answers]
        case Cancel(ids):
            return await kit.backend.cancel(kit.queue, ids)
        case Tick(holder, limit, cap, overflow, events):
            lease = Lease(kit.queue, holder, LONG_MS)
            p = await kit.try_promote(lease, limit=limit, max_stream_len=cap, overflow=overflow, events=events)
            if isinstance(p, LeaseLost):
                return p
            return _tick(p)
        case TakeLock(holder):
            return type(await kit.backend.lock(kit.queue, holder, LONG_MS))
        case ReleaseLock(holder):
            return await kit.backend.unlock(Lease(kit.queue, holder, LONG_MS))
        case Change():
            return await _change(kit, step, serial)
        case Look():
            return await _look(kit, step)


async def _change(kit: Kit, step: Change, serial: int) -> Any:
    which: str | StoredJob = step.id
    (shown,) = await kit.backend.get_jobs(kit.queue, [step.id])
    if step.by_itself and shown is not None:
        which = shown
    delay_ms = DELAYS_MS[step.when]
    change: JobChange
    match step.what:
        case "move":
            change = Reschedule(job=which, delay_ms=delay_ms)
        case "run":
            change = RunNow(job=which, max_stream_len=step.cap, events=step.events)
        case "remove":
            change = Remove(job=which)
        case _:
            request = job(
                step.id,
                payload=b"%d" % serial,
                delay_ms=delay_ms,
                name=f"{serial}",
                unique=True,
                keep_id_ms=step.keep_id_ms,
            )
            data, name, due = step.keeps
            change = Replace(request=request, keep_data=data, keep_name=name, keep_due=due)
    outcomes = list(await kit.backend.change_jobs(kit.queue, [change]))
    await kit.sleep_ms(SOON_MS + 5 if step.when == "soon" else 2)
    (after,) = await kit.backend.get_jobs(kit.queue, [step.id])
    return outcomes, [stored and _shown(stored) for stored in (shown, after)]


async def _look(kit: Kit, step: Look) -> Any:
    now_ms = (await kit.backend.stats(kit.queue)).now_ms
    low, high = (None if bound is None else now_ms + LONG_MS // 2 for bound in step.bounds)
    jobs, after = list[StoredJob](), ""
    while True:
        page = await kit.backend.list_jobs(
            kit.queue,
            JobQuery(
                limit=step.limit,
                after=after,
                due_from_ms=low,
                due_to_ms=high,
                name=step.name,
                reverse=step.reverse,
                want_details=True,
            ),
        )
        jobs += page.jobs
        if not (after := page.cursor):
            break
    counts = await kit.backend.count_jobs(kit.queue, [now_ms + LONG_MS // 2, now_ms + 5 * LONG_MS])
    return list(counts), sorted(_shown(stored) for stored in jobs)  # the order of far jobs may differ


def _shown(stored: StoredJob) -> Any:
    """Return the values that must not differ."""
    return str(stored.id), stored.name, stored.envelope, stored.unique, stored.keep_id_ms or 0


async def _at_once(kit: Kit, request: JobRequest) -> Scheduled:
    answers: tuple[Scheduled, ...] = await kit.backend.schedule(kit.queue, [request])
    await kit.sleep_ms(2)
    return answers[0]


def _tick(p: Promotion) -> Any:
    jobs = [(j.id, j.name) for j in p.jobs]
    return p.promoted, p.depth, p.held_back, p.malformed, p.oldest_pending_lag_ms > 0, p.next_due_ms is None, jobs


async def final(kit: Kit) -> Any:
    stats = await kit.backend.stats(kit.queue)
    arrivals = [(a.id, a.name, a.envelope.payload) for a in await kit.arrivals()]
    events = [(e["e"], e["id"], e.get("n")) for e in await kit.events()]
    return (stats.depth, stats.due, stats.dlq_len, stats.holder), arrivals, events
