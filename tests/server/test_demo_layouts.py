"""`promoter demo --layout`: real consumers, both ways at once, and one line where it cannot run."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from promoter_core import ConfigError, PluginError
from promoter_demo import side_by_side
from promoter_layouts.demos import programs, workers
from tests import processes
from tests.server.test_cli import promoter
from tests.typed import present

pytestmark = pytest.mark.server

# The longest first: all run at once, four at a time.
MODULES = {
    "sidekiq": "",
    "taskiq": "taskiq_redis",
    "laravel": "",
    "rq": "rq",
    "celery": "celery",
    "docket": "docket",
    "faststream": "faststream",
    "huey": "huey",
    "saq": "saq",
    "streaq": "streaq",
}


def installed(layout):
    return bool(find_spec(MODULES[layout]) if MODULES[layout] else programs.version(layout))


def wrong(layout, done):
    """What is wrong with a demo's output; "" for nothing."""
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    good = (
        done.returncode == 0
        and len(rows) == (1 if layout == "faststream" else 2)
        and "Promoter" in rows[-1]
        and all(row.split("│")[2].strip() == "5" for row in rows)
        and not done.stderr
    )
    return "" if good else done.stdout + done.stderr


async def test_each_framework_runs_all_jobs_once_either_way():
    layouts = [layout for layout in MODULES if installed(layout)]
    if not layouts:
        pytest.skip("no framework is installed")
    four = asyncio.Semaphore(4)

    async def run(layout):
        async with four:
            words = ("demo", "--layout", layout, "--jobs", "5", "--seconds", "1")
            return wrong(layout, await asyncio.to_thread(promoter, *words, timeout=100))

    found = dict(zip(layouts, await asyncio.gather(*map(run, layouts)), strict=True))
    assert found == dict.fromkeys(layouts, "")


async def test_a_worker_that_ends_as_its_time_is_up_has_ended(monkeypatch):
    async def late(ending, timeout_s):
        await ending
        raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", late)
    async with workers.process("redis://unused/0", ["-c", "input()"], talks=True) as worker:
        pass
    assert worker.returncode == -signal.SIGTERM


def test_each_demo_is_tested():
    assert sorted(MODULES) == sorted(side_by_side.FRAMEWORKS)


def test_ctrl_c_ends_every_process():
    pytest.importorskip("saq")
    command = [sys.executable, "-m", "promoter_core", "demo", "--layout", "saq"]
    pipe = subprocess.PIPE
    with processes.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as demo:
        assert "60 jobs" in present(demo.stdout).readline()
        time.sleep(0.3)  # while it schedules
        os.killpg(demo.pid, signal.SIGINT)
        _, said = demo.communicate(timeout=60)
    assert demo.returncode == 130, said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("celry", "there is no demo of a layout 'celry'; did you mean 'celery'? Choices: "),
        ("bullmq-2", "there is no demo of a layout 'bullmq-2'. Choices: "),
        ("rq:prefix=app", "the demo chooses the options of a layout itself: use --layout rq"),
    ],
)
def test_a_framework_without_a_demo_is_one_line(layout, said):
    with pytest.raises(ConfigError) as caught:
        side_by_side.framework(layout)
    assert str(caught.value).startswith(said)


def test_numbers_out_of_range_are_one_line():
    answer = promoter("demo", "--layout", "taskiq", "--jobs", "0")
    assert (answer.returncode, len(answer.stderr.strip().splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("layout", "module", "install"),
    [("taskiq", "taskiq_redis", "taskiq-redis"), ("rq", "rq", "rq"), ("docket", "docket", "pydocket")],
)
def test_a_framework_that_is_not_installed_is_named_with_its_installation(monkeypatch, layout, module, install):
    monkeypatch.delitem(sys.modules, f"promoter_layouts.demos.{layout}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PluginError, match=f"^the demo of {layout} needs the module {module}: pip install '{install}'$"):
        side_by_side.framework(layout)


@pytest.mark.parametrize("layout", ["sidekiq", "laravel"])
def test_a_framework_in_another_language_that_is_not_installed_is_named_with_its_installation(
    layout, monkeypatch, tmp_path
):
    programs.version.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        with pytest.raises(PluginError, match=f"^the demo of {layout} needs [SL][a-z]+: apt-get install "):
            side_by_side.framework(layout)("redis://unused/0")
    finally:
        programs.version.cache_clear()


def test_what_arrives_is_counted():
    run = side_by_side.Run("a", due_s={0: 10.0, 1: 11.0, 2: 12.0})
    for number, at_s in ((0, 10.5), (0, 10.6), (1, 10.9)):
        run.arrived(number, at_s)
    assert (run.lost, run.twice, run.early, run.good) == (1, 1, 1, False)
    assert not run.complete.is_set()
    run.arrived(2, 12.0)
    assert run.complete.is_set()
