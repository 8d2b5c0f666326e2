"""DelayedQueue: what a failure half way through a change of many jobs leaves, and how the change goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promoter_core import (
    BulkInterrupted,
    BulkResult,
    DelayedQueue,
    JobError,
    JobOutcome,
    PermanentError,
    TransientError,
)
from promoter_core.spi import StreamName
from promoter_core.testing import Fault, FaultyBackend
from tests.unit.sweeps import at, dues, fill, small_steps

__all__ = ["small_steps"]  # a fixture

MOVED = JobOutcome.MOVED


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("by", [7, -7])
async def test_after_a_failure_half_way_the_move_goes_on_where_it_stopped(backend, clock, by, lost):
    faulty = FaultyBackend(backend, Fault("change_jobs", nth=3, after_effect=lost), Fault("list_jobs", nth=5))
    queue = DelayedQueue(faulty, "q", clock=clock)
    await fill(queue, range(10, 40))
    given_by = {"by": timedelta(seconds=by), "due_from": at(clock, 10)}
    failures, position = [], None
    while True:
        try:
            result = await queue.reschedule_where(**given_by, resume=position)
            break
        except BulkInterrupted as error:
            failures.append(error)
            position = error.position
    assert [error.result.matched for error in failures] == [8, 12]
    assert isinstance(failures[0], TransientError)
    assert failures[0].code == "CONNECTION"
    assert str(failures[0]) == "injected: the connection was lost; interrupted after 8 jobs"
    assert result == BulkResult(30, {MOVED: 30})
    assert await dues(queue, clock) == [float(n + by) for n in range(10, 40)]


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (lambda q, c: q.cancel_where(due_from=at(c, 3)), [0, 1, 2]),
        (lambda q, c: q.run_due_before(at(c, 17)), [17, 18, 19]),
        (lambda q, c: q.reschedule_where(at=at(c, 9)), [9.0] * 20),
    ],
)
async def test_after_a_failure_half_way_a_call_can_simply_be_made_again(backend, clock, call, left):
    queue = DelayedQueue(FaultyBackend(backend, Fault("change_jobs", nth=2, after_effect=True)), "q", clock=clock)
    await fill(queue, range(20))
    with pytest.raises(BulkInterrupted):
        await call(queue, clock)
    await call(queue, clock)
    assert await dues(queue, clock) == left
    assert len(await backend.read("q", StreamName.JOBS, "", 99)) in (0, 17)


async def test_a_position_is_good_for_the_same_events_only(backend, clock):
    queue = DelayedQueue(FaultyBackend(backend, Fault("change_jobs")), "q", clock=clock)
    await fill(queue, range(5))
    with pytest.raises(BulkInterrupted) as caught:
        await queue.run_due_before(at(clock, 9), events=False)
    position = caught.value.position
    with pytest.raises(JobError, match="the same arguments"):
        await queue.run_due_before(at(clock, 9), resume=position)
    assert (await queue.run_due_before(at(clock, 9), events=False, resume=position)).matched == 5
    assert await backend.read("q", StreamName.EVENTS, "", 9) == ()


async def test_a_position_is_good_for_the_same_call_only(backend, clock):
    queue = DelayedQueue(FaultyBackend(backend, Fault("change_jobs")), "q", clock=clock)
    await fill(queue, range(5))
    with pytest.raises(BulkInterrupted) as caught:
        await queue.reschedule_where(by=timedelta(seconds=1))
    position = caught.value.position
    for call in (
        queue.reschedule_where(by=timedelta(seconds=2), resume=position),
        queue.cancel_where(resume=position),
        DelayedQueue(backend, "other").reschedule_where(by=timedelta(seconds=1), resume=position),
        queue.reschedule_where(by=timedelta(seconds=1), resume="x"),
    ):
        with pytest.raises(
            JobError, match="resume must be the position of a BulkInterrupted from .* the same arguments"
        ):
            await call


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_failure_of_the_first_look_is_an_interruption_too(backend, clock, nth):
    queue = DelayedQueue(FaultyBackend(backend, Fault("list_jobs", nth=nth)), "q", clock=clock)
    await fill(queue, range(5))
    with pytest.raises(BulkInterrupted, match="interrupted after 0 jobs") as caught:
        await queue.reschedule_where(by=timedelta(seconds=1))
    assert caught.value.result == BulkResult()
    result = await queue.reschedule_where(by=timedelta(seconds=1), resume=caught.value.position)
    assert result == BulkResult(5, {MOVED: 5})


async def test_a_permanent_error_comes_as_it_is(backend, clock):
    def broken():
        return PermanentError("wrong type", code="WRONGTYPE")

    queue = DelayedQueue(FaultyBackend(backend, Fault("list_jobs", error=broken)), "q", clock=clock)
    with pytest.raises(PermanentError, match=r"^wrong type$"):
        await queue.cancel_where()
