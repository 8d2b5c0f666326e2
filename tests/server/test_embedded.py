"""embedded:// and fake://: what lasts, what is shared, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, PermanentError, connect
from tests.server.bench import until
from tests.typed import untyped

pytestmark = pytest.mark.server


def works_in(pid):
    """The working directory of a process; None once it has ended."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


async def depth(url):
    async with connect(url) as backend:
        return (await backend.stats("q")).depth


async def test_without_a_path_the_data_goes_with_the_process():
    async with connect("embedded://") as backend:
        await DelayedQueue(backend, "q").schedule("x", delay=60)
        assert not backend.capabilities.durable
    assert await depth("embedded://") == 0


async def test_with_a_path_the_data_is_kept_across_runs(tmp_path):
    url = f"embedded://{tmp_path / 'data'}"
    for n in range(3):
        async with connect(url) as backend:
            assert backend.capabilities.durable
            assert (await backend.stats("q")).depth == n
            await DelayedQueue(backend, "q").schedule("x", delay=60)


async def test_closing_asks_the_server_to_end_and_does_not_wait_for_its_look_at_signals(tmp_path):
    async with connect(f"embedded://{tmp_path / 'data'}"):
        pass
    log = (tmp_path / "data" / "valkey.log").read_text()
    assert "User requested shutdown" in log
    assert "Received SIGTERM" not in log


async def test_two_at_once_on_one_path_are_refused(tmp_path):
    url = f"embedded://{tmp_path / 'data'}"
    async with connect(url):
        with pytest.raises(ConfigError, match="in use by another process.*use redis://"):
            await depth(url)
    assert await depth(url) == 0


async def test_a_path_that_cannot_be_used_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used: (Not a directory|File exists)"):
        await depth(f"embedded://{tmp_path / 'file'}")


SCRIPT = """
import asyncio, sys
from promoter_core import DelayedQueue, connect

async def main():
    async with connect(sys.argv[1]) as backend:
        await DelayedQueue(backend, "q").schedule(1, delay=60)
        print(backend._driver._home, backend._driver._server._guard.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def embedding(url):
    """A process with an embedded server; its private folder, the pid of the server's guard and of the server."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    home, guard = process.stdout.readline().split()
    process.stdout.close()
    return process, Path(home), int(guard), server_of(int(guard))


def server_of(guard):
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
    (server,) = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == "valkey-server"]
    return server


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


@linux
@pytest.mark.parametrize("kept", [False, True])
async def test_the_server_of_a_killed_process_ends_with_it_and_leaves_no_folder(tmp_path, kept):
    url = f"embedded://{tmp_path / 'data'}" if kept else "embedded://"
    process, home, guard, server = await asyncio.to_thread(embedding, url)
    assert works_in(server) is not None
    assert home.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    if kept:
        assert await depth(url) == 1, "the next process waits for it"
    await until(lambda: works_in(server) is None and works_in(guard) is None)
    assert not home.exists()


@linux
async def test_a_server_whose_guard_was_killed_too_is_ended_by_the_next_process(tmp_path):
    url = f"embedded://{tmp_path / 'data'}"
    process, home, guard, server = await asyncio.to_thread(embedding, url)
    os.kill(guard, signal.SIGSTOP)  # so that neither sees the other end
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(guard, signal.SIGKILL)
    assert works_in(server) == tmp_path / "data", "it lives on"
    assert await depth(url) == 1
    assert works_in(server) is None
    home.rmdir()


@pytest.fixture
def temporary():
    """A folder with a short path: sockets have one too."""
    with tempfile.TemporaryDirectory(prefix="pt-") as folder:
        yield Path(folder)


def contents(folder):
    return sorted(folder.iterdir())


@linux
async def test_a_connect_that_is_cancelled_leaves_no_server_and_no_folder(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def processes():
        return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}

    data, before = tmp_path / "data", processes()
    for delay_s in (0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08):
        for url in ("embedded://", f"embedded://{data}"):
            opening = asyncio.create_task(depth(url))
            await asyncio.sleep(delay_s)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await until(lambda: processes() <= before)
    await until(lambda: contents(temporary) == [])
    assert await depth(f"embedded://{data}") == 0


@linux
async def test_ctrl_c_is_for_the_process_and_not_for_its_server():
    async with connect("embedded://") as backend:
        guard = untyped(backend)._driver._server._guard.pid
        assert {os.getsid(guard), os.getsid(server_of(guard))} == {guard}
        assert os.getsid(0) != guard


async def test_a_server_that_cannot_start_is_a_clear_error_and_leaves_nothing(tmp_path):
    data = tmp_path / "data"
    async with connect(f"embedded://{data}") as backend:
        await DelayedQueue(backend, "q").schedule(1, delay=60)
    for file in (data / "appendonlydir").iterdir():
        file.write_text("nonsense")
    with pytest.raises(PermanentError, match="the embedded server did not start: .*\\w"):
        await depth(f"embedded://{data}")
    assert await asyncio.to_thread(lambda: works_in((data / "valkey.pid").read_text().strip())) != data


@pytest.mark.parametrize("scheme", ["fake", "memory"])
async def test_a_name_is_shared_and_no_name_is_private(scheme):
    async with (
        connect(f"{scheme}://shared") as one,
        connect(f"{scheme}://shared") as two,
        connect(f"{scheme}://") as other,
    ):
        await DelayedQueue(one, "q").schedule_many([Job(data=1, delay=60)] * 3)
        depths = [(await b.stats("q")).depth for b in (one, two, other)]
        assert depths == [3, 3, 0]
    del one, two, other
    gc.collect()
    assert await depth(f"{scheme}://shared") == 0, "it goes with the last backend that uses it"


async def test_the_event_loop_goes_on_while_the_server_starts():
    """On a busy machine this process may get no time in one of the starts, but not in all of them."""
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.create_task(beat())
    counted: list[int] = []
    while len(counted) < 10 and max(counted, default=0) <= 5:
        beats = 0
        await depth("embedded://")
        counted.append(beats)
    beating.cancel()
    assert max(counted) > 5, counted
