"""GLIDE writes a log, in colours, to stdout. A command's stdout is for what was asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers import Server
from tests.typed import present

pytestmark = pytest.mark.server

SCRIPT = """
import asyncio, sys
from promoter_core import DelayedQueue, Promoter, PromoterSettings, TransientError, connect

async def main():
    async with connect(sys.argv[1] + "?command_timeout_ms=300") as backend:
        promoter = Promoter(backend, "q", PromoterSettings(lock_ttl_ms=600))
        async with promoter.running():
            while not promoter.health()[0].leads:
                await asyncio.sleep(0.01)
            print("leads", flush=True)
            sys.stdin.readline()  # the server is killed here
            while promoter.health()[0].last_error is None:
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.5)
    print("done", flush=True)

asyncio.run(main())
"""


def test_an_outage_writes_nothing_of_glides_to_stdout():
    with Server() as server:
        command = [sys.executable, "-c", SCRIPT, f"glide://{server.address}"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert present(process.stdout).readline() == "leads\n"
            server.kill()
            out, err = process.communicate("\n", timeout=60)
    assert process.returncode == 0, err
    assert out == "done\n"
    assert "glide_core" not in err
    assert "\x1b[" not in err
