"""`promoter_core.sync` in one process, on memory://."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest
from ulid import ULID

import promoter_core
from promoter_core import ConfigError, Job, JobError, JobOutcome, PluginError, TransientError
from promoter_core.spi import pack_envelope
from promoter_core.sync import DelayedQueue, connect, list_queues
from promoter_core.sync.blocking import PAGE, blocking_function, blocking_signature, make_blocking, public_members
from promoter_core.sync.blocking import BlockingQueue as Base
from promoter_core.testing import FaultyBackend
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped
from tests.unit import sync_stub
from tests.unit.sync_backends import made


@pytest.fixture
def backend():
    with connect("memory://") as backend:
        yield backend


@pytest.fixture
def queue(backend):
    return DelayedQueue(backend, "q")


def test_every_public_method_of_the_queue_exists_with_the_same_arguments():
    asynchronous = public_members(promoter_core.DelayedQueue)
    assert {"schedule", "schedule_many", "cancel", "cancel_many", "stats"} <= set(asynchronous)
    assert set(public_members(DelayedQueue)) == set(asynchronous)
    for name, member in {**asynchronous, "__init__": promoter_core.DelayedQueue.__init__}.items():
        made = getattr(DelayedQueue, name)
        if isinstance(member, property):
            assert isinstance(made, property)
            continue
        theirs, ours = inspect.signature(member), inspect.signature(made)
        shown = [(p.name, p.kind, p.default, p.annotation) for p in theirs.parameters.values()]
        shown = [(*rest, "Connection" if annotation == "Backend" else annotation) for *rest, annotation in shown]
        assert [(p.name, p.kind, p.default, p.annotation) for p in ours.parameters.values()] == shown, name
        assert made.__doc__ == member.__doc__
        assert not inspect.iscoroutinefunction(made)
        assert "Async" not in str(ours.return_annotation)


def test_public_attributes_are_those_of_the_asynchronous_queue(backend):
    theirs = vars(promoter_core.DelayedQueue(backend._backend, "q"))
    assert {k for k in vars(DelayedQueue(backend, "q")) if not k.startswith("_")} == {
        k for k in theirs if not k.startswith("_")
    }


def test_connect_takes_what_the_asynchronous_one_takes():
    theirs, ours = inspect.signature(promoter_core.connect), inspect.signature(connect)
    assert list(ours.parameters.values()) == list(theirs.parameters.values())


def test_the_type_stub_is_the_one_that_is_written_today():
    pytest.importorskip("ruff", reason="it is written with ruff")
    assert sync_stub.COMMITTED.read_text() == sync_stub.render(), f"run: {sync_stub.COMMAND}"


PROGRAM = """
from datetime import timedelta
from promoter_core import BulkResult, DelayedJob, Job, JobOutcome, Page, QueueInfo, Scheduled
from promoter_core.sync import DelayedQueue, connect, list_queues

with connect("memory://") as backend:
    queue = DelayedQueue(backend, "emails")
    job: Scheduled = queue.schedule({"to": "ada"}, delay=timedelta(minutes=5), name="welcome")
    outcome: JobOutcome = queue.cancel(job)
    page: Page = queue.jobs(limit=10)
    every: list[DelayedJob] = [job for job in queue.scan(name="welcome")]
    result: BulkResult = queue.cancel_where(progress=print)
    queue.schedule_many(Job(data=n) for n in range(3))
    infos: list[QueueInfo] = list(list_queues(backend, "mail-*"))
"""


@pytest.mark.timeout(300)
def test_mypy_accepts_a_program_and_finds_a_wrong_argument(tmp_path):
    pytest.importorskip("mypy")
    wrong = tmp_path / "wrong.py"
    right = tmp_path / "right.py"
    right.write_text(PROGRAM)
    wrong.write_text(
        PROGRAM.replace("delay=timedelta", "dealy=timedelta") + "queue.cancel(3)\nreveal_type(queue.name)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent"]
    root = str(sync_stub.COMMITTED.parents[2])
    run = subprocess.run(
        [*command, str(right), str(wrong)],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": root},
        capture_output=True,
        text=True,
    )
    said = run.stdout
    assert "right.py" not in said, said
    assert 'Unexpected keyword argument "dealy"' in said
    assert 'Argument 1 to "cancel" of "DelayedQueue" has incompatible type "int"' in said
    assert 'Revealed type is "str"' in said
    assert "Found 2 errors in 1 file" in said


def test_a_job_is_scheduled_seen_and_cancelled(queue):
    at = datetime.now(UTC) + timedelta(days=1)
    one = queue.schedule({"to": "ada"}, at=at, name="welcome", job_id="ada-1")
    assert (one.id, one.created, queue.schedule(2, job_id="ada-1").outcome) == ("ada-1", True, JobOutcome.KEPT)
    assert queue.name == "q"
    assert queue.stats().depth == 1
    assert queue.cancel_many([one, "nobody"]) == (JobOutcome.REMOVED, JobOutcome.NOT_FOUND)


def test_errors_are_those_of_the_asynchronous_queue(backend, queue):
    with pytest.raises(ConfigError, match="queue"):
        DelayedQueue(backend, "")
    with pytest.raises(JobError, match="either delay= or at="):
        queue.schedule(1, delay=1, at=datetime.now(UTC))
    with pytest.raises(TypeError, match="dealy"):
        queue.schedule(1, dealy=1)
    with pytest.raises(JobError, match="schedule_many takes several"):
        queue.schedule_many("ab")
    with pytest.raises(ConfigError, match="unknown URL scheme"):
        connect("nosuch://")
    with pytest.raises(PluginError):
        connect("made://", registry=made(lambda: 1 / 0))
    with pytest.raises(
        ConfigError, match=r"sync.DelayedQueue takes what .*sync.connect\(…\) returns, not a MemoryBackend"
    ):
        DelayedQueue(untyped(MemoryBackend()), "q")
    with pytest.raises(ConfigError):
        promoter_core.DelayedQueue(backend, "q")


def test_two_connections_to_one_named_memory_share_its_jobs():
    name = f"memory://{ULID()}"
    with connect(name) as one, connect(name) as other:
        job = DelayedQueue(one, "q").schedule(1, delay=60)
        assert DelayedQueue(other, "q").cancel(job) is JobOutcome.REMOVED


def test_the_first_call_opens_and_close_ends_until_it_is_opened_again():
    backend = connect("memory://")
    queue = DelayedQueue(backend, "q")
    queue.schedule(1, delay=60)
    backend.close()
    backend.close()
    with pytest.raises(TransientError) as caught:
        queue.stats()
    assert caught.value.code == "CLOSED"
    backend.open()
    backend.open()
    assert queue.stats().depth == 1
    backend.close()


def test_a_connection_that_could_not_be_opened_is_opened_by_a_later_call():
    faulty = FaultyBackend(MemoryBackend())
    faulty.disconnected = True
    backend = connect("made://", registry=made(lambda: faulty))
    queue = DelayedQueue(backend, "q")
    for _ in range(2):
        with pytest.raises(TransientError):
            queue.stats()
    faulty.disconnected = False
    assert queue.stats().depth == 0
    backend.close()


def test_threads_that_make_the_first_call_at_once_open_it_once():
    opened = []

    class Slow(MemoryBackend):
        async def open(self):
            opened.append(threading.current_thread().name)
            await asyncio.sleep(0.05)
            await super().open()

    with ThreadPoolExecutor(16) as pool:
        backend = connect("made://", registry=made(Slow))
        queue = DelayedQueue(backend, "q")
        list(pool.map(lambda n: queue.schedule(n, delay=60), range(32)))
        assert opened == ["promoter-sync"]
        assert queue.stats().depth == 32
        backend.close()


def test_answers_of_2_000_calls_from_16_threads_are_each_that_of_its_call(queue):
    def work(n):
        ids = [f"{n}-{i}" for i in range(62)]
        assert [queue.schedule(i, delay=60, job_id=i).id for i in ids] == ids
        assert queue.cancel_many([ids[0], f"{n}-none"]) == (JobOutcome.REMOVED, JobOutcome.NOT_FOUND)
        return [queue.cancel(i) for i in ids[:61]] + [queue.schedule(1, delay=60, job_id=ids[61]).outcome]

    with ThreadPoolExecutor(16) as pool:
        for answers in pool.map(work, range(16)):
            assert answers == [JobOutcome.NOT_FOUND, *[JobOutcome.REMOVED] * 60, JobOutcome.KEPT]
    assert queue.stats().depth == 16


def test_a_generator_of_jobs_runs_in_the_thread_of_the_caller(queue):
    seen = []

    def jobs():
        for n in range(3):
            seen.append(threading.current_thread())
            yield Job(data=n, delay=60)

    assert len(queue.schedule_many(jobs())) == 3
    assert len(queue.cancel_many(jobs=(job for job in ["a", "b"]))) == 2
    assert set(seen) == {threading.current_thread()}


def test_the_context_of_the_caller_is_that_of_the_call():
    trace: ContextVar[str] = ContextVar("trace")
    seen = []

    class Traced(MemoryBackend):
        async def stats(self, queue):
            seen.append(trace.get(None))
            return await super().stats(queue)

    with connect("made://", registry=made(Traced)) as backend:
        trace.set("mine")
        DelayedQueue(backend, "q").stats()
    assert seen == ["mine"]


def test_progress_is_called_in_the_thread_of_the_caller_and_its_error_ends_the_call(queue):
    queue.schedule_many([Job(data=n, delay=60) for n in range(1200)])
    seen = []
    at = datetime.now(UTC) + timedelta(days=2)

    def progress(result):
        seen.append((threading.current_thread(), result.matched, queue.name, queue.stats().depth))

    result = queue.reschedule_where(at=at, progress=progress)
    assert result.matched == 1200
    assert [matched for _, matched, *_ in seen] == sorted(matched for _, matched, *_ in seen)
    assert seen[-1][1] == 1200
    assert {thread for thread, *_ in seen} == {threading.current_thread()}

    def failing(result):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        queue.cancel_where(progress=failing)
    with pytest.raises(JobError, match="plain function"):
        queue.cancel_where(progress=asyncio.sleep)
    assert queue.cancel_where().outcomes.keys() <= {JobOutcome.REMOVED}
    assert queue.stats().depth == 0


def test_jobs_are_listed_changed_and_retried(backend, queue):
    at = datetime.now(UTC) + timedelta(hours=1)
    job = queue.schedule({"to": "ada"}, at=at, job_id="ada-1")
    assert [queue.get("ada-1").id, *[j.id for j in queue.scan()], *[j.id for j in queue.jobs().jobs]] == ["ada-1"] * 3
    assert queue.histogram(at + timedelta(minutes=n) for n in (-5, 5, 15)) == (1, 0)
    assert queue.replace(job, {"to": "bob"}) is JobOutcome.REPLACED
    assert queue.reschedule(job, delay=60) is JobOutcome.MOVED
    assert queue.run_now(job) is JobOutcome.PROMOTED
    retried = queue.retry(pack_envelope("e-1", b"\x01", 0, 0), delay=60)
    assert queue.get(retried).attempt == 1
    assert [(info.name, info.stats.depth) for info in list_queues(backend, "q*")] == [("q", 1)]


async def numbers(backend, count, fails=False, log=None):
    """An asynchronous iterator."""
    try:
        for n in range(count):
            if log is not None:
                log.append(n)
            yield n
        if fails:
            raise JobError("at the end")
    finally:
        if log is not None:
            log.append("closed")


def test_an_iterator_gives_all_and_holds_a_page_at_most(backend):
    numbers.__annotations__["return"] = "AsyncIterator[int]"
    iterate = blocking_function(numbers)
    assert list(iterate(backend, 3 * PAGE + 1)) == list(range(3 * PAGE + 1))
    log: list[object] = []
    some = iterate(backend, 10 * PAGE, log=log)
    assert [next(some), next(some)] == [0, 1]
    assert log == list(range(PAGE))
    some.close()
    assert log[-1] == "closed"
    assert list(some) == []


def test_an_iterator_gives_what_came_before_an_error(backend):
    some = blocking_function(numbers)(backend, 3, fails=True)
    assert [next(some), next(some), next(some)] == [0, 1, 2]
    with pytest.raises(JobError, match="at the end"):
        next(some)


def test_an_iterator_ends_with_its_connection():
    backend = connect("memory://")
    some = blocking_function(numbers)(backend, 3 * PAGE)
    assert next(some) == 0
    backend.close()
    with pytest.raises(TransientError) as caught:
        list(some)
    assert caught.value.code == "CLOSED"


def test_methods_that_come_later_are_made_too(backend):
    class Later:
        """A queue."""

        def __init__(self, backend: Backend, queue: str) -> None:  # type: ignore[name-defined]  # noqa: F821
            self._queue = queue

        async def scan(self, *, name: str | None = None) -> AsyncIterator[int]:  # type: ignore[name-defined]  # noqa: F821
            yield 1

        async def get(self, job: str) -> int:
            return len(job)

        def key(self) -> str:
            return self._queue

        @property
        def index(self) -> bool:
            return True

    @make_blocking(Later)
    class Made(Base):
        pass

    queue = untyped(Made(backend, "q"))
    assert (list(queue.scan()), queue.get(job="four"), queue.key(), queue.index) == ([1], 4, "q", True)
    assert str(inspect.signature(Made)) == "(backend: 'Connection', queue: 'str') -> 'None'"
    assert "index" in inspect.signature(DelayedQueue).parameters, "each has its own"
    assert str(blocking_signature(Later.scan)) == "(self, *, name: 'str | None' = None) -> 'Iterator[int]'"
