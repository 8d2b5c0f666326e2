"""`promoter watch` in a real terminal of 80 columns and 24 lines, on a real server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ulid import ULID

from promoter_core.spi import CHASQUIMQ
from tests.server.test_cli import promoter
from tests.servers import Server, free_port

pytest.importorskip("textual")
pytestmark = [pytest.mark.server, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]


class Terminal:
    """A tmux of its own, in which one command runs."""

    def __init__(self, tmp_path, *words, env=()):
        self._socket = str(tmp_path / "tmux")
        self._pid = tmp_path / "pid"
        command = shlex.join([sys.executable, "-m", "promoter_core", *words])
        shell = f"{' '.join(env)} sh -c 'echo $$ > {self._pid}; exec {command}'; echo ended with $?; stty -a; cat"
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TMUX")}
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", shell, env=clean)

    def _tmux(self, *words, env=None):
        done = subprocess.run(["tmux", "-S", self._socket, *words], capture_output=True, text=True, env=env, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(self, *words):
        return self._tmux("capture-pane", "-p", *words)

    def press(self, *keys):
        self._tmux("send-keys", *keys)

    def until(self, pattern, seconds=40):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.screen()):
            assert time.monotonic() < deadline, f"{pattern!r} is not seen:\n{self.screen()}"
            time.sleep(0.1)

    def signal(self, number):
        os.kill(int(self._pid.read_text()), number)

    def close(self):
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(tmp_path):
    opened = []

    def open(*words, **more):
        opened.append(Terminal(tmp_path, *words, **more))
        return opened[-1]

    yield open
    for one in opened:
        one.close()


def test_a_queue_is_watched_opened_and_changed_and_ctrl_c_ends_it(terminal, valkey, name):
    ids = [promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", d, "{}").stdout for d in ("50s", "2h")]
    view = terminal("watch", "--url", valkey.url, "--queue", f"{name}*")
    view.until(r"› q-01\S+… no leader +2 +0")
    view.until(r"next minute: q-.*1 job, 1 later")
    view.until(r"q quit")
    view.press("Enter")
    view.until(r"› in \d+.\d+ s +" + ids[0].strip())
    view.press("n")
    view.until(r"Run now: job")
    view.press("y")
    view.until(r"is in the stream now")
    view.until(r"stream 1 ")
    view.press("C-c")
    view.until(r"ended with 130")
    assert " echo " in view.screen(), "the terminal is as it was"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_gives_the_terminal_back(number, terminal, valkey, name):
    view = terminal("watch", "--url", valkey.url, "--queue", name)
    view.until("q quit")
    view.signal(number)
    view.until("ended with 0")
    assert " echo " in view.screen()


def test_a_server_that_is_killed_does_not_end_it_and_its_return_is_seen(terminal, name, tmp_path):
    with Server("valkey-9.1") as server:
        promoter("schedule", "--url", server.url, "--queue", name, "--delay", "1h", "{}")
        view = terminal("watch", "--url", server.url, "--refresh", "0.5")
        view.until(r"no leader +1")
    view.until(r"no answer for \d+ s, retrying: ")
    assert re.search("error +1 ", view.screen()), "the last figures stay"
    with Server("valkey-9.1", port=server.port):
        promoter("schedule", "--url", server.url, "--queue", name, "--delay", "1h", "{}")
        promoter("schedule", "--url", server.url, "--queue", name, "--delay", "1h", "{}")
        view.until(r"no leader +2")
        view.until(r"(?s)^((?!no answer).)*$")


def test_without_colours_there_are_none(terminal, valkey, name):
    promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", "1h", "{}")
    view = terminal("watch", "--url", valkey.url, "--queue", name, env=["NO_COLOR=1"])
    view.until("no leader")
    found = {number for codes in re.findall(r"\x1b\[([\d;]*)m", view.screen("-e")) for number in codes.split(";")}
    assert found <= {"", "0", "1", "7", "39", "49"}, "bold, reverse and what ends them"


async def test_hostile_names_reach_the_terminal_as_letters(terminal, valkey, client):
    name = f"z-{ULID()}"
    hostile = b"\x1b]0;owned\x07\x1b[2J[red]"
    member = len(hostile).to_bytes(4, "little") + hostile + b"\x94\xa2id\xc4\x03\x1b[H\x01\x00"
    await client.zadd(CHASQUIMQ.keys_of(name).delayed, {member: (time.time() + 3_600) * 1000})
    view = terminal("watch", "--url", valkey.url, "--queue", name)
    view.until("no leader")
    view.press("Enter")
    view.until(r"\\x1b\]0;own")
    assert "owned" not in view._tmux("display-message", "-p", "#{pane_title}")


def test_a_wrong_password_is_one_line(terminal):
    with Server("valkey-9.1", port=free_port()) as server:
        server.ask("CONFIG", "SET", "requirepass", "right")
        view = terminal("watch", "--url", f"redis://:wrong@{server.address}")
        view.until(r"Error: .*password")
        view.until("ended with 1")
        assert "wrong@" not in view.screen()
