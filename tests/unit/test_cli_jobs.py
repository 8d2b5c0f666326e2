"""The commands that see and change waiting jobs, in this process, on a store in memory."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys

import pytest

from promoter_core import DelayedQueue
from promoter_core.cli import launch
from promoter_core.spi import JobRequest, StreamName, pack_envelope
from promoter_core.testing.faults import connection_lost
from promoter_memory import backend as memory
from promoter_memory.store import MemoryStore

HOUR_S = 3_600
numbers = itertools.count()


class Shop:
    """A store, and the command line on it."""

    def __init__(self, capsys, monkeypatch):
        self.name = f"cli-{next(numbers)}"
        self.store = MemoryStore()
        self.url = f"memory://{self.name}"
        memory._named[self.name] = self.store
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def do(self, call, queue="emails"):
        async def go():
            backend = memory.MemoryBackend(self.store)
            await backend.open()
            return await call(backend, DelayedQueue(backend, queue))

        return asyncio.run(go())

    def schedule(self, id, delay=HOUR_S, queue="emails", name="welcome", data=1):
        self.do(lambda b, q: q.schedule(data, delay=delay, job_id=id, name=name), queue)

    def ids(self, queue="emails"):
        async def all_ids(b, q):
            return [job.id async for job in q.scan()]

        return self.do(all_ids, queue)

    def __call__(self, *words, stdin=None):
        """Exit code, stdout and stderr."""
        given = [*words, "--url", self.url]
        self._monkeypatch.setattr(sys, "argv", ["promoter", *given])
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._capsys.readouterr()
        try:
            launch.run(launch.find(given))
            code: int | str = 0
        except SystemExit as exc:
            code = exc.code or 0
        said = self._capsys.readouterr()
        return code, said.out, said.err


@pytest.fixture
def shop(capsys, monkeypatch):
    for name in ("PROMOTER_URL", "PROMOTER_QUEUE", "PROMOTER_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return Shop(capsys, monkeypatch)


def test_queues_are_listed_by_pattern(shop):
    for queue in ("mail-a", "mail-b", "other"):
        shop.schedule("x", queue=queue)
    code, out, err = shop("queues", "mail-*", "--json")
    assert (code, err) == (0, "")
    assert [(q["queue"], q["depth"]) for q in json.loads(out)] == [("mail-a", 1), ("mail-b", 1)]
    assert "3 queues" in shop("queues")[1]
    assert "did you mean 'other'" in shop("queues", "othr")[2]


def test_list_goes_page_by_page_and_by_name_and_due_time(shop):
    for i in range(5):
        shop.schedule(f"job-{i}", HOUR_S * (i + 1), name="even" if i % 2 == 0 else "odd", data={"n": i})
    page = json.loads(shop("list", "-q", "emails", "-n", "2", "--json")[1])
    assert [(job["id"], job["data"]) for job in page["jobs"]] == [("job-0", {"n": 0}), ("job-1", {"n": 1})]
    rest = json.loads(shop("list", "-q", "emails", "--after", page["cursor"], "--json")[1])
    assert ([job["id"] for job in rest["jobs"]], rest["cursor"]) == (["job-2", "job-3", "job-4"], "")
    odd = json.loads(shop("list", "-q", "emails", "--where", "name=odd", "--json")[1])
    assert [job["id"] for job in odd["jobs"]] == ["job-1", "job-3"]
    soon = json.loads(shop("list", "-q", "emails", "--due-from", "90m", "--due-before", "in 210m", "--json")[1])
    assert [job["id"] for job in soon["jobs"]] == ["job-1", "job-2"]
    code, out, err = shop("list", "-q", "emails", "-n", "1", "--reverse")
    assert (code, "job-4" in out, "--after" in err) == (0, True, True)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_ids_are_whole_on_any_terminal(shop, monkeypatch, columns):
    shop.do(lambda b, q: q.schedule({"text": "x" * 300}, delay=HOUR_S, name="n" * 50))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("promoter_core.cli.output.out._width", columns)
    out = shop("list", "-q", "emails")[1]
    assert shop.ids()[0] in out
    assert max(map(len, out.splitlines())) <= columns


def test_foreign_text_reaches_no_terminal(shop):
    evil = "\x1b[31mred\x9b[x]\u202e\x07\n"
    shop.schedule(evil, name=evil, data={evil: evil})
    for words in (["list"], ["list", "--json"], ["show", evil], ["show", evil, "--json"], ["cancel", evil + "2"]):
        _, out, err = shop(*words, "-q", "emails")
        assert out + err
        assert all(line.isprintable() for line in (out + err).replace("\t", "").split("\n")), words


def test_a_mistyped_queue_suggests_the_nearest(shop):
    shop.schedule("a")
    for words in (["list"], ["show", "a"], ["count"], ["cancel", "a"], ["run-now", "--all"], ["retry", "1-0"]):
        assert "did you mean 'emails'" in shop(*words, "-q", "emials")[2], words


def test_show_tells_all_of_a_job(shop):
    shop.schedule("a", data={"to": "ada"})
    (job,) = json.loads(shop("show", "a", "-q", "emails", "--json")[1])
    assert (job["name"], job["data"], job["unique"], job["keep_id_ms"]) == ("welcome", {"to": "ada"}, True, 3_600_000)
    code, out, err = shop("show", "a", "nope", "-q", "emails")
    assert (code, "{'to': 'ada'}" in out, "nope: no job" in err) == (1, True, True)


def test_count_by_due_time_and_as_a_histogram(shop):
    for i in range(3):
        shop.schedule(f"{i}", 60 * (10**i) - 1)
    shop.schedule("x", queue="empty-not")
    assert shop("count", "-q", "emails")[1] == "3\n"
    assert shop("count", "-q", "emails", "--due-before", "5m")[1] == "1\n"
    assert shop("count", "-q", "em*")[1] == "emails\t3\nempty-not\t1\n"
    counts = json.loads(shop("count", "-q", "emails", "--edges", "now,1m,1h,1d", "--json")[1])["histogram"]
    assert [part["count"] for part in counts] == [1, 1, 1]
    assert "1m – 10m" in shop("count", "-q", "emails", "--histogram")[1]
    assert shop("count", "-q", "emails", "--edges", "1h,1m")[0] == 2


def test_jobs_by_id_are_moved_run_replaced_and_cancelled(shop):
    for id in "abcd":
        shop.schedule(id)
    assert shop("reschedule", "a", "nope", "-q", "emails", "--at", "in 3h")[:2] == (1, "a\tmoved\nnope\tnot-found\n")
    assert shop.ids()[-1] == "a"
    assert shop("run-now", "b", "-q", "emails")[:2] == (0, "b\tpromoted\n")
    assert shop("run-now", "b", "-q", "emails")[:2] == (1, "b\talready-promoted\n")
    assert shop("replace", "c", '{"new": 1}', "-q", "emails")[:2] == (0, "c\treplaced\n")
    (job,) = json.loads(shop("show", "c", "-q", "emails", "--json")[1])
    assert (job["data"], job["name"]) == ({"new": 1}, "welcome")
    assert shop("replace", "e", "-", "-q", "emails", "--delay", "1h", stdin=b"[1]")[:2] == (0, "e\tcreated\n")
    code, out, _ = shop("cancel", "d", "d2", "-q", "emails", "--json")
    assert (code, json.loads(out)[0]) == (1, {"id": "d", "outcome": "removed"})
    assert shop.ids() == ["c", "e", "a"]


def test_a_job_that_finds_no_room_in_the_stream_is_due_now(shop):
    shop.schedule("a")
    shop.schedule("b")
    shop("run-now", "a", "-q", "emails")
    code, out, err = shop("run-now", "b", "-q", "emails", "--max-stream-len", "1")
    assert (code, out, "the stream is full" in err) == (0, "b\tmoved\n", True)


def test_many_jobs_are_changed_by_what_they_have_in_common(shop):
    for i in range(6):
        shop.schedule(f"{i}", HOUR_S * (i + 1), name="even" if i % 2 == 0 else "odd")
    dry = shop("cancel", "-q", "emails", "--where", "name=odd", "--dry-run", "--json")
    assert json.loads(dry[1]) == {"matched": 3, "outcomes": {}, "dry_run": True}
    assert shop("cancel", "-q", "emails", "--where", "name=odd")[1] == "3 jobs match, 3 removed\n"
    assert shop("reschedule", "-q", "emails", "--due-before", "2h", "--by", "10h")[1] == "1 jobs match, 1 moved\n"
    assert shop.ids() == ["2", "4", "0"]
    assert shop("run-now", "-q", "emails", "--due-before", "4h")[1] == "1 jobs match, 1 promoted\n"
    assert json.loads(shop("run-now", "-q", "emails", "--all", "--json")[1])["outcomes"] == {"promoted": 2}
    assert shop.ids() == []


@pytest.mark.parametrize(
    "words",
    [
        ["cancel"],
        ["cancel", "a", "--all"],
        ["cancel", "a", "--where", "name=x"],
        ["cancel", "a", "--dry-run"],
        ["cancel", "--where", "id=x"],
        ["cancel", "--where", "name=x", "--where", "name=y"],
        ["reschedule", "a"],
        ["reschedule", "a", "--delay", "1h", "--at", "in 1h"],
        ["reschedule", "a", "--by", "1h"],
        ["reschedule", "a", "--at", "whenever"],
        ["reschedule", "a", "--delay", "-5"],
        ["replace", "a", "{"],
        ["count", "--histogram", "--due-before", "1h"],
        ["list", "-n", "0"],
        ["schedule", "1", "--delay", "1h", "--on-repeat", "replace"],
        ["schedule", "1", "--delay", "1h", "--keep-id-for", "1h"],
        ["export", "--json"],
        ["retry", "1-0", "--delay", "1h", "--at", "in 1h"],
        ["copy", "--from", "memory://a", "--to", "memory://b", "--to-queue", "x", "--url", "u"],
    ],
)
def test_what_cannot_be_meant_is_refused_with_one_line_and_2(shop, words):
    shop.schedule("a")
    code, out, err = shop(*words, "-q", "emails")
    assert (code, out) == (2, "")
    assert err
    assert shop.ids() == ["a"]


def test_a_job_that_ran_is_put_back_with_one_attempt_more(shop):
    shop.schedule("a")
    shop("run-now", "a", "-q", "emails")
    entry = shop.do(lambda b, q: b.read("emails", StreamName.JOBS, "", 9))[0].id
    assert shop("retry", entry, "-q", "emails", "--delay", "1h")[:2] == (0, f"{entry}\ta\tcreated\n")
    (job,) = json.loads(shop("show", "a", "-q", "emails", "--json")[1])
    assert (job["attempt"], job["name"]) == (1, "welcome")
    (row,) = json.loads(shop("retry", "a", "-q", "emails", "--json")[1])
    assert (row["id"], row["outcome"]) == ("a", "moved"), "the same delivery once more is no second job"
    assert shop("retry", "9-9", "-q", "emails")[0] == 1


def test_a_job_that_has_used_up_its_runs_is_left_alone(shop):
    async def promote(backend, queue):
        await backend.schedule("emails", [JobRequest("old", pack_envelope("old", b"\x01", 0, 99), due_ms=0)])
        await queue.run_now("old")

    shop.do(promote)
    code, _, err = shop("retry", "old", "-q", "emails")
    assert (code, "has run 100 times" in err) == (1, True)
    assert shop.ids() == []


def test_a_histogram_tells_of_jobs_outside_of_its_times(shop):
    for id, due in (("overdue", 0), ("soon", HOUR_S / 2), ("far", 1000 * HOUR_S), ("farther", 1001 * HOUR_S)):
        shop.schedule(id, due)
    code, out, _ = shop("count", "-q", "emails", "--histogram", "--json")
    row = json.loads(out)
    assert (code, row["before"], sum(part["count"] for part in row["histogram"]), row["after"]) == (0, 1, 1, 2)
    assert "outside of these times: 1 due earlier, 2 due later" in shop("count", "-q", "emails", "--histogram")[2]
    assert "outside" not in shop("count", "-q", "emails", "--edges", "2h ago,in 2000h")[2]


def test_a_cursor_that_is_none_is_a_mistake_of_usage(shop):
    shop.schedule("a", HOUR_S)
    code, out, err = shop("list", "-q", "emails", "--after", "bogus")
    assert (code, out, "'bogus' is not a cursor" in err) == (2, "", True)


@pytest.mark.parametrize(("end", "exit_code"), [(KeyboardInterrupt, 130), (connection_lost, 1)])
@pytest.mark.parametrize("words", [("cancel", "--all"), ("reschedule", "--all", "--by", "1h")])
def test_a_sweep_that_is_ended_says_how_many_jobs_were_changed(shop, monkeypatch, words, end, exit_code):
    for i in range(600):
        shop.schedule(f"{i:03}", HOUR_S + i)
    change, calls = memory.MemoryBackend.change_jobs, itertools.count(1)

    async def interrupted(self, queue, changes):
        if next(calls) == 2:
            raise end()
        return await change(self, queue, changes)

    monkeypatch.setattr(memory.MemoryBackend, "change_jobs", interrupted)
    code, out, err = shop(*words, "-q", "emails")
    assert (code, out) == (exit_code, "")
    said = " ".join(err.split())
    assert "500 jobs are done, and perhaps some of the next 500" in said
    assert ("moves those again" in said) is ("--by" in words)


def test_an_export_to_a_file_goes_on_where_it_was_ended(shop, tmp_path, monkeypatch):
    for i in range(30):
        shop.schedule(f"{i:02}", HOUR_S + i)
    monkeypatch.setattr("promoter_core.client.transfer.PAGE", 10)
    for name in ("jobs.jsonl", "jobs.jsonl.gz"):
        file = tmp_path / name
        with monkeypatch.context() as broken:
            listed, calls = memory.MemoryBackend.list_jobs, itertools.count(1)

            async def interrupted(self, queue, query, listed=listed, calls=calls):
                if next(calls) == 3:
                    raise KeyboardInterrupt
                return await listed(self, queue, query)

            broken.setattr(memory.MemoryBackend, "list_jobs", interrupted)
            code, _, err = shop("export", "-q", "emails", str(file))
            assert (code, f"20 jobs are in {file}" in err.replace("\n", "")) == (130, True)
        with file.open("ab") as torn:
            torn.write(b'{"id": "half')  # as a process leaves it that was killed
        code, out, err = shop("export", "-q", "emails", str(file), "--json")
        assert (code, json.loads(out)["jobs"], "resuming after 20 jobs" in err) == (0, 30, True)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert shop("export", "-q", "emails", str(file))[0] == 2, "a finished file is not overwritten unasked"
        assert shop("export", "-q", "emails", str(file), "--overwrite")[0] == 0
        file.unlink()


def test_an_unfinished_export_of_another_queue_is_not_gone_on_with(shop, tmp_path):
    shop.schedule("a")
    (tmp_path / "x.exporting").write_text('{"store": "s", "queue": "q", "bytes": 0, "jobs": 0, "cursor": "c"}')
    (tmp_path / "x").write_text("")
    code, _, err = shop("export", "-q", "emails", str(tmp_path / "x"))
    assert (code, "unfinished export of queue 'q'" in err) == (2, True)


def test_an_import_into_a_store_that_ends_with_the_command_is_refused(shop, tmp_path):
    shop.schedule("a")
    assert shop("export", "-q", "emails", str(tmp_path / "x"))[0] == 0
    assert shop("import", str(tmp_path / "x"))[0] == 2
