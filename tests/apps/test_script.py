"""docs/examples/apps/script.py."""

from __future__ import annotations

import sys

import pytest

from promoter_core.sync import DelayedQueue, connect
from tests import processes
from tests.apps.conftest import APPS, environment, load


def test_a_second_run_schedules_nothing_again(mails, url, monkeypatch, tmp_path, capsys):
    people = tmp_path / "people.txt"
    people.write_text("ada@example.com\nbob@example.com\n\n")
    module = load("script", url, monkeypatch)
    assert module.main(str(people), "2090-05-01T09:00:00+02:00") == 0
    people.write_text(people.read_text() + "eve@example.com\n")
    assert module.main(str(people), "2090-05-01T09:00:00+02:00") == 0
    assert capsys.readouterr().out == "2 scheduled, 0 were already\n1 scheduled, 2 were already\n"
    jobs = list(mails.scan())
    assert [job.data()["to"][:3] for job in jobs] == ["ada", "bob", "eve"]
    assert {job.due.isoformat() for job in jobs} == {"2090-04-30T07:00:00+00:00"}


@pytest.mark.server
def test_as_a_process_it_ends_with_a_code_and_one_line(valkey, tmp_path):
    people = tmp_path / "people.txt"
    people.write_text("ada@example.com\n")

    def run(url):
        command = [sys.executable, str(APPS / "script.py"), str(people), "2090-05-01T09:00:00+02:00"]
        return processes.run(command, env=environment(url), capture_output=True, text=True, timeout=60)

    done = run(valkey.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 scheduled, 0 were already\n", "")
    with connect(valkey.url) as backend:
        DelayedQueue(backend, "mails").cancel("reminder-20900501-ada@example.com")
    failed = run("redis://127.0.0.1:1")
    assert failed.returncode == 1
    assert failed.stderr.startswith("nothing, or not all, was scheduled: ")
    assert failed.stderr.count("\n") == 1
