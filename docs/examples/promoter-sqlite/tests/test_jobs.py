"""Managing jobs in a file: how much a call reads, and the values that a transaction counts once."""

import sqlite3
from contextlib import closing

import pytest
from promoter_sqlite import streams
from promoter_sqlite.database import STEPS
from promoter_sqlite.jobs import Changes
from promoter_sqlite.listing import PAGE_BYTES, counts, page_of, queues_after

from promoter_core.spi import JobOutcome, JobQuery, RunNow, StreamName

INSERT = "INSERT INTO jobs (queue, id, name, envelope, due_ms, uniq) VALUES (?, ?, ?, ?, ?, 0)"


@pytest.fixture
def db():
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for step in STEPS:
            db.executescript(step)
        yield db


def add(db, number, queue="q", envelope=b"x", due_ms=1_000):
    db.executemany(INSERT, [(queue, b"%d" % n, b"", envelope, due_ms) for n in range(number)])


def steps(db, work):
    """Count the instructions of SQLite's virtual machine."""
    taken = 0

    def step():
        nonlocal taken
        taken += 1
        return 0

    db.set_progress_handler(step, 1)
    work()
    db.set_progress_handler(None, 1)
    return taken


@pytest.mark.parametrize("reverse", [False, True])
def test_a_page_costs_the_same_wherever_it_is_among_jobs_of_one_millisecond(db, reverse):
    add(db, 5_000)

    def page(after):
        return steps(db, lambda: page_of(db, "q", JobQuery(limit=10, after=f"1000-{after}", reverse=reverse), 0))

    assert page(4_500) < 2 * page(2_500) < 4 * page(500)
    assert page(500) < 2 * page(4_500)


def test_a_step_of_a_search_for_queues_does_not_pass_over_their_jobs(db):
    def search():
        return steps(db, lambda: queues_after(db, b"", 10, 0))

    for n in range(5):
        add(db, 1, f"q{n}")
    few = search()
    for n in range(5):
        add(db, 2_000, f"q{n}")
    assert search() < 2 * few


def test_many_bounds_count_each_job_once(db):
    add(db, 3_000)
    one, many = ([10**6], list(range(900, 1_100)))
    assert counts(db, "q", many) == [0] * 101 + [3_000] * 99
    assert steps(db, lambda: counts(db, "q", many)) < 3 * steps(db, lambda: counts(db, "q", one))


def test_a_stream_is_counted_once_for_many_jobs_that_run_now(db):
    add(db, 50)
    for _ in range(2_000):
        streams.add_job(db, "q", 1, b"x", b"", b"")
    changes = Changes(db, "q", 2_000)
    run = [RunNow(job=f"{n}", max_stream_len=2_049, events_max_stream_len=10) for n in range(50)]
    first = steps(db, lambda: changes.carry_out(run[0]))
    rest = steps(db, lambda: [changes.carry_out(change) for change in run[1:49]])
    assert rest < 48 * first / 4
    assert changes.carry_out(run[49]) is JobOutcome.MOVED  # the stream is full
    changes.finish()
    assert [streams.length(db, "q", of) for of in (StreamName.JOBS, StreamName.EVENTS)] == [2_049, 10]


def test_a_page_of_large_jobs_has_a_few(db):
    add(db, 5, envelope=bytes(PAGE_BYTES // 2))
    sizes, after = [], ""
    while True:
        page = page_of(db, "q", JobQuery(after=after), 0)
        sizes.append(len(page.jobs))
        if not (after := page.cursor):
            break
    assert sizes == [2, 2, 1]
