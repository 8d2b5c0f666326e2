"""`promoter demo --layout`: real consumers, both ways at once, and one line where it cannot run."""

from __future__ import annotations

import sys

import pytest

from promoter_core import ConfigError, PluginError
from promoter_demo import side_by_side
from tests.server.test_cli import promoter

pytestmark = pytest.mark.server

MODULES = {"celery": "celery", "faststream": "faststream.redis", "taskiq": "taskiq_redis"}


@pytest.mark.parametrize("layout", sorted(side_by_side.FRAMEWORKS))
def test_each_framework_gets_all_jobs_once(layout):
    pytest.importorskip(MODULES[layout])
    done = promoter("demo", "--layout", layout, "--jobs", "5", "--seconds", "1", timeout=110)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert any("Promoter" in row and "5" in row for row in rows), done.stdout
    assert len(rows) == (1 if layout == "faststream" else 2), done.stdout
    assert "Traceback" not in done.stderr


def test_a_framework_without_a_demo_is_one_line():
    with pytest.raises(ConfigError, match="there is no demo of a layout 'celry'; did you mean 'celery'?"):
        side_by_side.framework("celry")
    answer = promoter("demo", "--layout", "taskiq", "--jobs", "0")
    assert (answer.returncode, len(answer.stderr.strip().splitlines())) == (2, 1)


def test_a_framework_that_is_not_installed_is_named_with_its_installation(monkeypatch):
    monkeypatch.delitem(sys.modules, "promoter_layouts.demos.taskiq", raising=False)
    monkeypatch.setitem(sys.modules, "taskiq_redis", None)
    with pytest.raises(PluginError, match="needs the module taskiq_redis: pip install 'taskiq-redis'"):
        side_by_side.framework("taskiq")


def test_what_arrives_is_counted():
    run = side_by_side.Run("a", due_s={0: 10.0, 1: 11.0, 2: 12.0})
    for number, at_s in ((0, 10.5), (0, 10.6), (1, 10.9)):
        run.arrived(number, at_s)
    assert (run.lost, run.twice, run.early, run.good) == (1, 1, 1, False)
    assert not run.complete.is_set()
    run.arrived(2, 12.0)
    assert run.complete.is_set()
