"""The end of a leadership: RELEASING while the lock is given back, RELEASED once it is, then STOPPED."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import pytest

from promoter_core import DelayedQueue, PermanentError, Promoter, PromoterFleet, connect
from promoter_core.engine.actions import Cleanup, Done, Failed, NotReleased, Stop, Unlock, Waited
from promoter_core.engine.machine import State
from promoter_core.spi import LeaseHeld, LeaseLost, LockOutcome, Promotion
from promoter_core.testing import Fault, FaultyBackend, RecordingMetrics
from tests.unit.machine_bench import JOB, LEASE, LOST_TOUCH, REFUSED, Bench

# The machine


def shut_down(bench):
    bench.machine.shutdown()
    return bench.then(Waited(False))


def refused(bench):
    return bench.then(Failed(REFUSED))


def abandoned(bench):
    bench.decision = bench.machine.abandon(bench.now_s)
    return bench


def idle():
    return Bench(until_idle=True).leads(Promotion(promoted=1))


ENDS = {
    "a shutdown": lambda: shut_down(Bench().leads(Promotion())),
    "a permanent error": lambda: refused(Bench().leads()),
    "a permanent error of a wait": lambda: refused(Bench().leads(Promotion())),
    "a cancellation": lambda: abandoned(Bench().leads()),
    "nothing is due": idle,
}
ANSWERS = {
    "released": (Done(), LockOutcome.RELEASED),
    "another's": (LeaseLost(), LockOutcome.HELD),
    "no answer": (Failed(LOST_TOUCH), LockOutcome.HELD),
    "refused": (Failed(REFUSED), LockOutcome.HELD),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_leader_that_ends_is_releasing_until_any_answer_comes_and_then_has_stopped(end, answer):
    bench = ENDS[end]()
    assert bench.machine.state is State.RELEASING
    assert bench.action == Unlock(LEASE)
    assert not [r for r in bench.decision.reports if isinstance(r, LockOutcome) and r is not LockOutcome.ACQUIRED]
    outcome, reported = ANSWERS[answer]
    bench = bench.then(outcome)
    assert bench.machine.state is State.STOPPED
    assert bench.action == Stop(REFUSED if end.startswith("a permanent error") else None)
    assert [r for r in bench.decision.reports if isinstance(r, LockOutcome)] == [reported]
    assert [r.error for r in bench.decision.reports if isinstance(r, NotReleased)] == (
        [outcome.error] if isinstance(outcome, Failed) else []
    )


def test_what_a_tick_still_owes_is_done_before_the_lock_is_released():
    bench = Bench(fused=frozenset()).then(LEASE)
    bench.machine.shutdown()
    assert bench.then(Promotion(promoted=1, jobs=(JOB,))).action == Cleanup((JOB,))
    assert bench.machine.state is State.LEADER
    bench = bench.then(Done()).then(Done())
    assert bench.machine.state is State.RELEASING


def test_a_lock_that_was_never_granted_is_released_and_not_reported():
    bench = Bench()
    bench.machine.shutdown()
    bench.then(Failed(LOST_TOUCH))
    assert (bench.machine.state, bench.action) == (State.RELEASING, Unlock(LEASE))
    bench.then(Done())
    assert bench.machine.state is State.STOPPED
    assert bench.decision.reports == (), "it has never been reported as acquired"


@pytest.mark.parametrize("end", [shut_down, refused, abandoned])
def test_a_follower_that_ends_has_nothing_to_release(end):
    bench = end(Bench().then(LeaseHeld(500)))
    assert bench.machine.state is State.STOPPED
    assert isinstance(bench.action, Stop)


def test_who_releases_neither_waits_nor_renews():
    bench = shut_down(Bench().leads(Promotion()))
    assert bench.machine.resume_wait(bench.now_s) is None
    assert bench.machine.lease_renewed(None, bench.now_s, bench.now_s) is None
    assert (bench.machine.state, bench.action) == (State.RELEASING, Unlock(LEASE))


# The runners

KINDS = ["promoter", "fleet"]


@pytest.fixture
async def memory():
    async with connect("memory://") as backend:
        yield backend


def runner(kind, backend, clock, **options):
    make = partial(Promoter, backend, "q") if kind == "promoter" else partial(PromoterFleet, backend, ["q"])
    return make(clock=clock, **options)


async def releasing(run, clock, task):
    """Its health while `unlock` is under way."""
    for _ in range(100):
        await clock.sleep(0.01)
        if task.done() or [h for h in run.health() if h.state == "releasing"]:
            break
    return [(h.queue, h.state, h.leads) for h in run.health()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stop", "error", "cancel"])
async def test_health_says_releasing_until_the_lock_is_released(backend, clock, queue, kind, how):
    metrics = RecordingMetrics()
    no = lambda: PermanentError("no", code="NOPERM")  # noqa: E731
    slow = FaultyBackend(backend, Fault("unlock", error=None, delay_s=0.5), clock=clock)
    run = runner(kind, slow, clock, metrics=[metrics])
    task = asyncio.create_task(run.run())
    await clock.sleep(0.5)
    assert [h.state for h in run.health()] == ["leader"]
    if how == "error":
        method = "promote" if kind == "promoter" else "promote_many"
        slow.faults.append(Fault(method, nth=slow.calls[method] + 1, error=no))
        await queue.schedule(1, delay=0.1)
    elif how == "stop":
        run.stop()
    else:
        task.cancel()
    assert await releasing(run, clock, task) == [("q", "releasing", False)]
    assert metrics.outcomes == [("q", LockOutcome.ACQUIRED)], "not released yet"
    assert (await backend.stats("q")).holder == run.holder_id
    ended = (await asyncio.gather(task, return_exceptions=True))[0]
    expected = {"stop": type(None), "error": PermanentError, "cancel": asyncio.CancelledError}[how]
    assert isinstance(ended, expected)
    assert metrics.outcomes == [("q", LockOutcome.ACQUIRED), ("q", LockOutcome.RELEASED)]
    assert [h.state for h in run.health()] == ["stopped"]
    assert (await backend.stats("q")).holder is None


class Late(FaultyBackend):
    """While it is `late` a tick loses every cancellation. It takes effect during the release, or long after it."""

    late = False
    ends_during_release = True

    async def unlock(self, lease):
        self.late = not self.ends_during_release
        await asyncio.sleep(0.3)
        return await self.backend.unlock(lease)

    async def _pass(self, method, call):
        if method in ("promote", "promote_many") and self.late:
            while self.late:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
        return await super()._pass(method, call)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["stop", "cancel"])
@pytest.mark.parametrize("when", ["during the release", "after the end"])
async def test_an_answer_that_comes_after_its_step_was_given_up_changes_nothing(memory, kind, how, when, caplog):
    metrics, late = RecordingMetrics(), Late(memory)
    late.ends_during_release = when == "during the release"
    run = runner(kind, late, None, metrics=[metrics])
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(10):
        while not metrics.ticks:
            await asyncio.sleep(0.01)
    late.late = True
    await DelayedQueue(memory, "q").schedule(1)  # a tick that does not end
    await asyncio.sleep(0.1)
    task.cancel() if how == "cancel" else run.stop()
    ended = (await asyncio.gather(task, return_exceptions=True))[0]
    assert isinstance(ended, asyncio.CancelledError if how == "cancel" else type(None)), ended
    late.late = False
    await asyncio.sleep(0.3)
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
    assert len(metrics.ticks) == 1, "nobody waits for the other one any more"
    assert metrics.outcomes == [("q", LockOutcome.ACQUIRED), ("q", LockOutcome.RELEASED)]
    assert (await memory.stats("q")).holder is None
    assert "does not end; it is abandoned" in caplog.text
    assert "never retrieved" not in caplog.text
