"""What `promoter_core.spi` takes over from authors of backends: the life of a backend, a driver's calls and errors."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from promoter_core.spi import (
    BackendUrl,
    ChangeFlags,
    ChangeKind,
    ConfigError,
    ErrorTable,
    Lifecycle,
    PermanentError,
    SystemClock,
    TransientError,
    chunked,
    parse_url,
    run_call,
    url_options,
)

ERRORS = ErrorTable(
    code=lambda exc: getattr(exc, "sqlstate", None),
    classes=[(ConnectionError, "CONNECTION"), (KeyError, "KEY")],
    permanent={"28P01"},
    words={"ERR": "unknown command|syntax"},
    hints={"28P01": "the password of the URL is wrong", "FULL": "the disk is full"},
)


class Refused(Exception):
    sqlstate = "28P01"


def translate(exc):
    return ERRORS.translate(exc, "db:5432")


@pytest.fixture
async def life():
    life = Lifecycle(ChangeFlags(SystemClock()))
    await life.open()
    return life


class Steps:
    """Counts what a `Lifecycle` calls."""

    def __init__(self):
        self.started = self.stopped = 0
        self.error = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self):
        self.started += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def stop(self):
        self.stopped += 1


def closed(call):
    with pytest.raises(TransientError, match="is closed") as caught:
        call()
    return caught.value.code == "CLOSED"


async def test_a_backend_is_closed_until_it_has_been_opened_and_from_close_on():
    life, steps = Lifecycle(), Steps()
    assert closed(life.check)
    assert not life.is_closed
    await life.open(steps.start)
    await life.open(steps.start)
    life.check()
    await life.close(steps.stop)
    await life.close(steps.stop)
    assert closed(life.check)
    assert life.is_closed
    await life.open(steps.start)
    life.check()
    assert (steps.started, steps.stopped) == (2, 2)


async def test_two_who_open_at_once_open_once():
    life, steps = Lifecycle(), Steps()
    steps.gate.clear()
    both = [asyncio.create_task(life.open(steps.start)) for _ in range(2)]
    await asyncio.sleep(0)
    assert closed(life.check), "it is open only when `start` has returned"
    steps.gate.set()
    await asyncio.gather(*both)
    assert steps.started == 1


async def test_an_open_that_failed_may_be_repeated_and_is_cleared_up_by_close():
    life, steps = Lifecycle(), Steps()
    steps.error = TransientError("away", code="CONNECTION")
    with pytest.raises(TransientError, match="away"):
        await life.open(steps.start)
    assert closed(life.check)
    await life.close(steps.stop)
    assert steps.stopped == 1
    steps.error = None
    await life.open(steps.start)
    life.check()


async def test_a_close_while_it_opens_wins():
    life, steps = Lifecycle(), Steps()
    steps.gate.clear()
    opening = asyncio.create_task(life.open(steps.start))
    await asyncio.sleep(0)
    await life.close(steps.stop)
    steps.gate.set()
    with pytest.raises(TransientError, match="is closed"):
        await opening
    assert closed(life.check)


async def test_close_ends_every_wait():
    flags = ChangeFlags(SystemClock())
    life = Lifecycle(flags)
    await life.open()
    for kind in ChangeKind:
        flags.expect(kind, "q")
    waits = [asyncio.create_task(life.wait("q", kind, 60)) for kind in ChangeKind]
    await asyncio.sleep(0.01)
    await life.close()
    ended = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 5)
    assert [error.code for error in ended if isinstance(error, TransientError)] == ["CLOSED"] * len(waits)
    with pytest.raises(TransientError, match="is closed"):
        await life.wait("q", ChangeKind.JOBS, 60)


@pytest.mark.parametrize(
    ("exc", "cls", "code", "message"),
    [
        (Refused("no entry"), PermanentError, "28P01", "db:5432: no entry (the password of the URL is wrong)"),
        (ConnectionResetError("reset\nby peer"), TransientError, "CONNECTION", "db:5432: reset"),
        (TimeoutError(), TransientError, "TIMEOUT", "db:5432: no answer in time"),
        (ValueError("odd"), TransientError, "ValueError", "db:5432: odd"),
        (ValueError(), TransientError, "ValueError", "db:5432: ValueError"),
    ],
)
def test_an_exception_is_looked_up_by_its_own_code_its_class_and_its_name(exc, cls, code, message):
    error = translate(exc)
    assert (type(error), error.code, str(error)) == (cls, code, message)


def test_words_make_permanent_only_what_has_that_code():
    assert isinstance(ERRORS.error("ERR unknown command 'X'", "ERR"), PermanentError)
    assert isinstance(ERRORS.error("unknown command", "BUSY"), TransientError)
    assert isinstance(ERRORS.error("something", "ERR"), TransientError)
    assert str(ERRORS.error("no room", "FULL")) == "no room (the disk is full)"


def test_one_of_our_errors_stays_as_it_is():
    error = PermanentError("ours", code="OURS")
    assert translate(error) is error


async def test_a_call_gives_its_answer_and_a_drivers_exception_is_ours(life):
    async def fails():
        raise Refused("no")

    assert await run_call(asyncio.sleep(0, "answer"), translate, life, timeout_s=5) == "answer"
    assert await run_call(asyncio.sleep(0, "answer"), translate, life, whole=True) == "answer"
    for whole in (False, True):
        with pytest.raises(PermanentError) as caught:
            await run_call(fails(), translate, life, whole=whole)
        assert isinstance(caught.value.__cause__, Refused)


@pytest.mark.parametrize("whole", [False, True])
async def test_a_call_is_bounded_in_time(life, whole):
    with pytest.raises(TransientError) as caught:
        await run_call(asyncio.sleep(0.2), translate, life, timeout_s=0.01, whole=whole)
    assert caught.value.code == "TIMEOUT"


@pytest.mark.parametrize("ended_by", ["cancellation", "time"])
@pytest.mark.parametrize("whole", [False, True])
async def test_a_call_that_is_given_up_is_cancelled_unless_it_is_whole(life, whole, ended_by):
    steps = []

    async def work():
        steps.append("half")
        await asyncio.sleep(0.02)
        steps.append("whole")

    timeout_s = 0.005 if ended_by == "time" else None
    caller = asyncio.create_task(run_call(work(), translate, life, timeout_s=timeout_s, whole=whole))
    await asyncio.sleep(0.005)
    if ended_by == "cancellation":
        caller.cancel()
    await asyncio.wait((caller,))
    if ended_by == "cancellation":
        assert caller.cancelled()
    else:
        error = caller.exception()
        assert isinstance(error, TransientError)
        assert error.code == "TIMEOUT"
    await asyncio.sleep(0.1)
    assert steps == (["half", "whole"] if whole else ["half"])


async def test_a_cancelled_caller_leaves_the_work_of_a_thread_whole_and_its_error_disturbs_nobody(life):
    seen = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(5)
        done.set()
        raise Refused("nobody hears it")

    with ThreadPoolExecutor(1) as thread:
        call = asyncio.get_running_loop().run_in_executor(thread, work)
        caller = asyncio.create_task(run_call(call, translate, life, whole=True))
        await asyncio.sleep(0)
        while not begun.is_set():
            await asyncio.sleep(0.001)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        del call, caller
        go_on.set()
        while not done.is_set():
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert seen == []


async def test_after_close_a_call_is_not_begun_and_what_one_under_way_raises_is_closed(life):
    begun = []

    async def work():
        begun.append(1)
        await asyncio.sleep(0.02)
        raise ConnectionResetError

    under_way = asyncio.create_task(run_call(work(), translate, life))
    await asyncio.sleep(0)
    await life.close()
    for call in (under_way, run_call(work(), translate, life)):
        with pytest.raises(TransientError) as caught:
            await call
        assert caught.value.code == "CLOSED"
    assert begun == [1]


@pytest.mark.parametrize(
    ("sizes", "count", "max_size", "expected"),
    [
        ([], 3, 10, []),
        ([1, 1, 1, 1], 3, 10, [[1, 1, 1], [1]]),
        ([4, 4, 4], 3, 8, [[4, 4], [4]]),
        ([20, 1, 20, 1], 3, 10, [[20], [1], [20], [1]]),
        ([20], 3, 10, [[20]]),
        ([5, 5, 1], 3, 10, [[5, 5], [1]]),
    ],
)
def test_chunks_are_bounded_by_count_and_by_size(sizes, count, max_size, expected):
    assert [list(c) for c in chunked(sizes, count, size=lambda n: n, max_size=max_size)] == expected


def test_chunks_by_count_alone():
    assert list(chunked(range(7), 3)) == [range(3), range(3, 6), range(6, 7)]
    assert list(chunked("abc", 100)) == ["abc"]


def url(text):
    return parse_url(f"x://u:secret@h/?{text}")


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (url_options.whole(1, 60_000), "60000", 60_000),
        (url_options.whole(-5), "-5", -5),
        (url_options.choice("full", "normal"), "normal", "normal"),
        (url_options.boolean, "Yes", True),
        (url_options.boolean, "0", False),
        (url_options.duration_ms(), "500ms", 500),
        (url_options.duration_ms(), "1h30m", 5_400_000),
        (url_options.duration_ms(), "1.5s", 1_500),
        (int, "7", 7),
        (str, "", ""),
    ],
)
def test_an_option_is_converted(convert, text, value):
    assert url(f"o={text}").take(o=convert) == {"o": value}


@pytest.mark.parametrize(
    ("convert", "text", "message"),
    [
        (url_options.whole(1, 60_000), "0", "a whole number from 1 to 60000"),
        (url_options.whole(1, 60_000), "60001", "a whole number from 1 to 60000"),
        (url_options.whole(), "1_000", "a whole number from 0"),
        (url_options.whole(), "٣", "a whole number from 0"),
        (url_options.whole(), "9" * 5_000, "a whole number from 0"),
        (url_options.choice("full", "normal"), "Full", "one of full, normal"),
        (url_options.boolean, "maybe", "1 or 0"),
        (url_options.duration_ms(1, 60_000), "61s", "a time such as 500ms, 5s or 1h30m from 1ms to 60000ms"),
        (url_options.duration_ms(), "5", "a time such as 500ms, 5s or 1h30m"),
        (url_options.duration_ms(), "", "a time such as 500ms, 5s or 1h30m"),
        (int, "x", "a whole number"),
    ],
)
def test_an_option_that_cannot_be_is_one_clear_line(convert, text, message):
    expected = re.escape(f"option 'o' must be {message}") + ".*" + re.escape(f", not {text!r}") + "$"
    with pytest.raises(ConfigError, match=expected) as caught:
        BackendUrl(scheme="x", options={"o": text}).take(o=convert)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="unknown option 'o'; options are: a, b") as caught:
        url("o=1").take(a=int, b=str)
    assert "secret" not in str(caught.value)
