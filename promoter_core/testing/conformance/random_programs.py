"""Random programs, run by a backend and by the memory backend side by side: every answer and the final state agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promoter_core import connect
from promoter_core.spi import JobRequest, Lease, LeaseLost, Overflow, Promotion, Scheduled
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.harness import LONG_MS, SOON_MS, Kit, job


@dataclass(frozen=True)
class Schedule:
    ids: tuple[str, ...]  # unique ones; "" for a job with another id
    when: str  # "now", "soon" (and then time passes), "far"
    name: str
    index: bool


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


Step = Schedule | Cancel | Tick | TakeLock | ReleaseLock

_ids = st.sampled_from(["a", "b", "c", "ü", "x" * 40])
_holders = st.sampled_from(["one", "two"])
_steps = st.one_of(
    st.builds(
        Schedule,
        st.lists(_ids | st.just(""), min_size=1, max_size=4).map(tuple),
        st.sampled_from(["now", "soon", "soon", "far"]),
        st.sampled_from(["", "n", "näme"]),
        st.booleans(),
    ),
    st.builds(Cancel, st.lists(_ids, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Tick,
        _holders,
        st.integers(1, 4),
        st.sampled_from([1, 3, 1000, 1000]),
        st.just(Overflow.HOLD),  # what TRIM leaves is approximate
        st.booleans(),
    ),
    st.builds(TakeLock, _holders),
    st.builds(ReleaseLock, _holders),
)


class RandomProgramsContract(ContractBase):
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(program=st.lists(_steps, min_size=1, max_size=12))
    async def test_random_programs_agree_with_the_memory_backend(self, kit: Kit, program: list[Step]) -> None:
        async with connect("memory://", clock=kit.clock) as model:
            theirs, ours = kit.other(), Kit(model, kit.clock)
            serial = 0
            for number, step in enumerate(program):
                answers = [await run(side, step, serial) for side in (theirs, ours)]
                serial += len(step.ids) if isinstance(step, Schedule) else 0
                if answers[0] != answers[1]:
                    raise AssertionError(
                        f"step {number + 1} of the program, {step}: "
                        f"the backend answered {answers[0]}, the model {answers[1]}"
                    )
            states = [await final(side) for side in (theirs, ours)]
        if states[0] != states[1]:
            raise AssertionError(f"after {program} the backend holds {states[0]}, the model {states[1]}")


async def run(kit: Kit, step: Step, serial: int) -> Any:
    """The answer of a step without the parts that may differ: times and stream ids."""
    match step:
        case Schedule(ids, when, name, index):
            base_ms = {"now": 0, "soon": SOON_MS, "far": LONG_MS}[when]
            requests = [
                job(
                    id or f"own-{serial + i}",
                    payload=b"%d" % (serial + i),  # no two members are equal
                    delay_ms=base_ms + i * (when != "now"),
                    unique=bool(id),
                    name=name,
                    index=index,
                )
                for i, id in enumerate(ids)
            ]
            if when == "now":  # a millisecond apart: the order of equal due times is the backend's
                answers = [await _at_once(kit, request) for request in requests]
            else:
                answers = await kit.backend.schedule(kit.queue, requests)
            if when == "soon":
                await kit.sleep_ms(SOON_MS + len(ids) + 5)
            return [(a.id, a.created) for a in answers]
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
