"""A process that begins as a fork is as one that begins alone: for its parent, and for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.typed import present

ROOT = Path(__file__).parents[2]
SEES = """
import json, os, sys
print(json.dumps([sys.argv, sys.stdin.read(), os.getcwd(), os.environ.get("X"), __name__, os.getsid(0) == os.getpid()]))
print("no output", file=sys.stderr)
"""
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"


def both(*words, **options):
    """What subprocess and `processes` say of one command."""
    command = [sys.executable, *words]
    runs = [way(command, capture_output=True, text=True, **options) for way in (subprocess.run, processes.run)]
    return [(run.returncode, run.stdout, run.stderr.splitlines()[-1:]) for run in runs]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("-c", SEES, "a b", "é"), {"input": "text"}),
        (("-c", SEES), {"input": "", "env": os.environ | {"X": "1"}, "cwd": "/", "start_new_session": True}),
        (("-c", "raise ValueError(3)"), {}),
        (("-c", "import sys; sys.exit('a reason')"), {}),
        (("-c", "import sys; sys.exit(300)"), {}),
        (("-c", "import os; os.kill(os.getpid(), 9)"), {}),
        (("-c", "import atexit; atexit.register(print, 'bye')"), {}),
        (("-c", "import threading, time; threading.Timer(0.1, print, ['late']).start()"), {}),
        (("-W", "error", "-c", "import warnings; warnings.warn('no')"), {}),
        (("-m", "promoter_core", "--version"), {}),
        (("-m", "promoter_core", "inspect", "--url", "memory://", "--queue", "a{b}"), {}),
    ],
)
def test_it_is_and_returns_the_same(words, options):
    alone, forked = both(*words, **options)
    assert forked == alone


def started(**options):
    process = processes.Popen([sys.executable, "-c", SLEEPS], stdout=-1, stderr=-1, text=True, **options)
    assert present(process.stdout).readline() == "up\n"
    return process


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_receives_signals(sign):
    with started() as process:
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        os.kill(process.pid, sign)
        assert process.wait(20) == -sign
        assert process.poll() == -sign


def test_a_fork_begins_its_own_processes_alone():
    """A module that it imports could begin one when it is imported, and fill the memory."""
    asks = "import os, sys; from tests.processes import forkable; "
    command = [sys.executable, "-c", asks + "print(forkable([sys.executable, '-c', '0'], {}, os.environ))"]
    alone, forked = (way(command, capture_output=True, text=True, cwd=ROOT) for way in (subprocess.run, processes.run))
    assert (alone.stdout, forked.stdout) == (f"{sys.platform == 'linux'}\n", "False\n")


def test_what_is_not_the_same_in_a_fork_begins_alone():
    command = [sys.executable, "-c", "import sys; print('redis.asyncio' in sys.modules)"]
    linux = sys.platform == "linux"
    assert processes.run(command, capture_output=True, text=True).stdout == f"{linux}\n"
    environment = os.environ | {"PYTHONASYNCIODEBUG": "1"}
    assert processes.run(command, env=environment, capture_output=True, text=True).stdout == "False\n"
    assert not processes.forkable(["redis-server"], {}, os.environ)


def test_a_run_of_pytest_has_imported_nothing_whose_asserts_it_rewrites(tmp_path):
    ours = "[name for name in sys.modules if name.startswith('promoter_core')]"
    (tmp_path / "test_it.py").write_text(f"import sys\ndef test_it():\n    assert {ours} == ['nothing']\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:valkey", "test_it.py"]
    run = processes.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "AssertionError: assert [] == ['nothing']" in run.stdout, run.stdout + run.stderr
