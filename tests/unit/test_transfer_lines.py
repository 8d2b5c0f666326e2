"""Files of jobs: what a line holds, what is refused and where, and what cannot be a job in another store."""

from __future__ import annotations

import base64
import gc
import json
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import Scheduled, TransferError, Transferred, export_jobs, import_jobs
from promoter_core.client.transfer_lines import Malformed, job_line, moving, parse_line
from promoter_core.spi import MAX_DUE_MS, JobPage, JobQuery, StoredJob, pack_envelope, unpack_envelope
from tests.typed import present, untyped
from tests.unit.test_transfer import HOUR_MS, exported, lines, request, source, target, ulid, waiting

__all__ = ["source", "target"]  # fixtures


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"{}\n", "line 1 is not the first line"),
        (b"\x1f\x8b\x00", "line 1 is not the first line"),
        (b"[1]\n", "line 1 is not the first line"),
        (b"[" * 100_000, "line 1 is not the first line"),
        (b'{"promoter-jobs": 2, "queue": "q"}\n', "version 2"),
        (b'{"promoter-jobs": 1, "queue": "a{b}"}\n', "line 1: queue name"),
    ],
)
async def test_a_foreign_file_is_refused(target, data, message):
    with pytest.raises(TransferError, match=message):
        await import_jobs(target, lines(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"due_ms": "soon"}, "line 3 is no job: due_ms must be"),
        ({"due_ms": None}, "no due_ms, and is not parked"),
        ({"due_ms": True}, "due_ms must be"),
        ({"due_ms": -1}, "due_ms must be"),
        ({"id": ""}, "1 to 512"),
        ({"id": 5}, "must be text"),
        ({"id": "other"}, "another id, '01J"),
        ({"name": 5}, "must be text"),
        ({"name": "\ud800"}, "line 3"),
        ({"envelope": "%"}, "not base64"),
        ({"envelope": ""}, "empty"),
        ({"envelope": None, "id": None}, "no envelope"),
        ({"keep_id_ms": -5}, "keep_id_ms must be"),
    ],
)
async def test_a_wrong_line_is_named_and_all_before_it_is_there(source, target, clock, change, message):
    await source.schedule("q", [request(ulid(i), clock.time_ms() + HOUR_MS + i) for i in range(3)])
    rows = (await exported(source)).splitlines(keepends=True)
    rows[2] = json.dumps(json.loads(rows[2]) | change).encode() + b"\n"
    with pytest.raises(TransferError, match=message):
        await import_jobs(target, rows)
    assert [job[0] for job in await waiting(target)] == [ulid(0)]


async def test_a_file_that_was_cut_is_imported_as_far_as_it_goes(source, target, clock):
    await source.schedule("q", [request(ulid(i), clock.time_ms() + HOUR_MS + i) for i in range(3)])
    data = await exported(source)
    rows = data.splitlines(keepends=True)
    with pytest.raises(TransferError, match="ends after line 3 without"):
        await import_jobs(target, rows[:3])
    assert len(await waiting(target)) == 2
    with pytest.raises(TransferError, match="line 4 is not complete JSON: the file was truncated here"):
        await import_jobs(target, [*rows[:3], rows[3][:20]])
    with pytest.raises(TransferError, match="line 3 is not complete JSON$"):
        await import_jobs(target, [*rows[:2], b"{nonsense\n", *rows[3:]])


async def test_a_job_can_be_made_by_hand(target, clock):
    rows = [
        b'{"promoter-jobs":1,"queue":"q"}\n',
        b'{"id":"a","due_ms":99,"data":{"to":"ada"}}\n',
        b"\n",
        b'{"end":true}',
    ]
    assert (await import_jobs(target, rows)).created == 1
    (job,) = (await target.list_jobs("q", JobQuery())).jobs
    assert job.envelope == pack_envelope("a", b"\x81\xa2to\xa3ada", 0, 0)


async def test_malformed_members_are_in_the_file_and_counted(target):
    row = job_line(StoredJob(id=None, name="", envelope=b"\xff\x01", due_ms=7, malformed=True))
    assert base64.b64decode(json.loads(row)["member"]) == b"\xff\x01"
    assert isinstance(parse_line(row, 2), Malformed)
    rows = [b'{"promoter-jobs":1,"queue":"q"}\n', row, b'{"end":true}\n']
    assert await import_jobs(target, rows) == Transferred(lines=3, malformed=1)
    assert await waiting(target) == []


async def test_a_job_without_a_readable_id_arrives_once(target, clock):
    job = StoredJob(id=None, name="n", envelope=b"\x91\x01", due_ms=clock.time_ms() + HOUR_MS)
    rows = [b'{"promoter-jobs":1,"queue":"q"}\n', job_line(job), b'{"end":true}\n']
    assert (await import_jobs(target, rows)).created == 1
    assert (await import_jobs(target, rows)).waiting == 1
    ((_, name, envelope, _, _),) = await waiting(target)
    assert (name, envelope) == ("n", b"\x91\x01")


async def test_a_parked_job_waits_until_the_end_of_the_year_9999(target):
    job = StoredJob(id="p", name="", envelope=pack_envelope("p", b"\x01", 0, 0), due_ms=None)
    rows = [b'{"promoter-jobs":1,"queue":"q"}\n', job_line(job), b'{"end":true}\n']
    await import_jobs(target, rows)
    assert [job[3] for job in await waiting(target)] == [MAX_DUE_MS]
    assert (await import_jobs(target, rows)).waiting == 1


async def test_jobs_of_two_queues_are_not_mixed_up(target):
    rows = [
        b'{"promoter-jobs":1,"queue":"a"}\n',
        b'{"end":true}\n',
        b'{"promoter-jobs":1,"queue":"b"}\n',
        b'{"end":true}\n',
    ]
    with pytest.raises(TransferError, match="line 3 begins the jobs of another queue, 'b'"):
        await import_jobs(target, rows)
    await import_jobs(target, rows, queue="both")
    with pytest.raises(TransferError, match="line 2: no header"):
        await import_jobs(target, [b"\n", b'{"id":"a","due_ms":1,"data":1}\n'])


stored = st.builds(
    StoredJob,
    id=st.text(min_size=1, max_size=40).filter(str.strip),
    name=st.text(max_size=20),
    envelope=st.binary(min_size=1),
    due_ms=st.integers(0, MAX_DUE_MS) | st.none(),
    unique=st.booleans(),
    keep_id_ms=st.integers(0, 10**9) | st.none(),
    traceparent=st.text(max_size=60),
)


def has_another_id(job: StoredJob) -> bool:
    """Its envelope can be read, and is that of another job: no store has such a one, and import refuses it."""
    try:
        return unpack_envelope(job.envelope).id != job.id
    except ValueError:
        return False


def is_text(job: StoredJob) -> bool:
    return all(not 0xD800 <= ord(c) < 0xE000 for c in present(job.id) + job.name + job.traceparent)


@given(stored.filter(lambda j: is_text(j) and not has_another_id(j)))
def test_a_line_brings_back_the_job_and_holds_nothing_that_controls_a_terminal(job):
    line = job_line(job)
    assert line.decode()[:-1].isprintable()
    made = pack_envelope(job.id, job.envelope, 0, 0)
    for its in (job, replace(job, envelope=made)):
        assert parse_line(job_line(its), 2) == moving(its)


class Endless:
    """A store that makes its jobs up as they are listed, and forgets what it is given."""

    def __init__(self, jobs):
        self.jobs = jobs

    async def promote(self): ...

    async def schedule(self, queue, jobs):
        return tuple(Scheduled(job.id) for job in jobs)

    async def list_jobs(self, queue, query):
        first, last = int(query.after or 0), min(int(query.after or 0) + query.limit, self.jobs)
        made = [
            StoredJob(id=f"{i}", name="n", envelope=pack_envelope(f"{i}", b"\x01" * 50, 0, 0), due_ms=i, unique=True)
            for i in range(first, last)
        ]
        return JobPage(jobs=made, cursor=str(last) if last < self.jobs else "", now_ms=0)


class Listed(Endless):
    """With the methods that an export asks for, though it calls one only."""

    get_jobs = count_jobs = change_jobs = Endless.schedule


async def peak_of(jobs):
    """Bytes of memory that an export and an import of so many jobs take at most."""
    store, source = untyped(Endless(jobs)), untyped(Listed(jobs))
    pages = [page async for page in export_jobs(source, "q")]
    gc.collect()
    tracemalloc.start()
    try:
        async for _ in export_jobs(source, "q"):
            pass
        result = await import_jobs(store, (line for page in pages for line in page.lines.splitlines(keepends=True)))
        assert result.created == jobs
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_memory_stays_flat_however_many_jobs_there_are():
    few, many = await peak_of(1_500), await peak_of(7_500)
    assert many < few * 1.5
