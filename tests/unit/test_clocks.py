"""What the log says when time is not what it seems: an event loop that stands still, and clocks that differ."""

from __future__ import annotations

import pytest

from promoter_core import Job, Promoter, PromoterFleet
from promoter_core.testing import RecordingEvents


class Wrong:
    """A machine whose wall clock is wrong; its monotonic clock is right."""

    def __init__(self, clock):
        self.monotonic, self.sleep, self._right = clock.monotonic, clock.sleep, clock
        self.ahead_s = 0

    def time_ms(self):
        return self._right.time_ms() + self.ahead_s * 1_000


@pytest.fixture(params=["one", "fleet"])
def runner(request, backend, clock):
    mine = Wrong(clock)
    made = Promoter(backend, "q", clock=mine) if request.param == "one" else PromoterFleet(backend, ["q*"], clock=mine)
    return made, mine


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_an_event_loop_that_stands_still_is_said_once_in_a_while(runner, clock, queue, caplog):
    await queue.schedule(1, delay=60)
    async with runner[0].running():
        await clock.sleep(10)
        assert warnings(caplog) == []
        for pause_s in (6, 3):
            clock.jump(pause_s)
            await clock.sleep(0.5)
        (text,) = warnings(caplog)
        assert text.startswith("the event loop was blocked for ")
        assert "other code of this process blocks it" in text
        await clock.sleep(10)
        clock.jump(6)
        await clock.sleep(0.5)
        assert len(warnings(caplog)) == 2


@pytest.mark.parametrize("made", [Promoter, lambda b, q, **more: PromoterFleet(b, [q], **more)], ids=["one", "fleet"])
async def test_a_sink_that_holds_up_the_event_loop_is_noticed(made, backend, clock, queue, caplog):
    class Blocking(RecordingEvents):
        async def emit(self, queue, jobs):
            await super().emit(queue, jobs)
            clock.jump(4)

    sink = Blocking()
    await queue.schedule_many([Job(data=n, delay=n) for n in (5, 6, 7)])
    async with made(backend, "q", clock=clock, events=[sink]).running():
        await clock.sleep(30)
    assert len(sink.ids) == 3
    assert any(text.startswith("the event loop was blocked for ") for text in warnings(caplog))


@pytest.mark.parametrize(("ahead_s", "words"), [(600, "behind this machine's"), (-600, "ahead of this machine's")])
async def test_clocks_that_differ_are_said_and_so_is_a_jump_and_the_end(runner, clock, queue, caplog, ahead_s, words):
    caplog.set_level("INFO", "promoter")
    made, mine = runner
    await queue.schedule(1, delay=60)
    async with made.running():
        await clock.sleep(10)
        assert warnings(caplog) == []
        mine.ahead_s = ahead_s
        await clock.sleep(20)
        (text,) = warnings(caplog)
        assert f"the store's clock is 600.0 s {words}" in text
        assert f"promoted that much too {'late' if ahead_s > 0 else 'early'}" in text
        mine.ahead_s = ahead_s * 2
        await clock.sleep(20)
        assert f"1200.0 s {words}" in warnings(caplog)[-1]
        mine.ahead_s = 0
        await clock.sleep(20)
        assert len(warnings(caplog)) == 2
        assert "the store's clock agrees with this machine's again" in caplog.text
