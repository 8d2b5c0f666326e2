"""embedded:// and fake://: what lasts, what is shared, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, connect

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


async def test_the_server_that_a_killed_process_left_behind_is_ended(tmp_path):
    url = f"embedded://{tmp_path / 'data'}"
    script = (
        "import asyncio\nfrom promoter_core import DelayedQueue, connect\n"
        f"async def main():\n  async with connect({url!r}) as b:\n"
        "    await DelayedQueue(b, 'q').schedule(1, delay=60)\n    print('ready', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert process.stdout.readline() == "ready\n"
    orphan = int((tmp_path / "data" / "valkey.pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert works_in(orphan) == tmp_path / "data", "it lives on"
    assert await depth(url) == 1
    assert works_in(orphan) is None


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
    beats = 0

    async def beat():
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    beating = asyncio.create_task(beat())
    await depth("embedded://")
    beating.cancel()
    assert beats > 5
