"""The first tutorial's consumer, and the install lines of all pages."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest
from ulid import ULID

from promoter_core import DelayedQueue, Promoter, connect
from tests import processes
from tests.typed import present
from tests.unit.test_docs import PAGES, page


@pytest.mark.server
async def test_the_tutorials_consumer_takes_promoted_jobs_after_a_wait_and_in_a_second_run(valkey):
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", page("tutorial/first-queue.md"), re.S) if "Redis()" in c]
    queue = f"q-{ULID()}"
    code = code.replace("redis.Redis()", f"redis.Redis.from_url({valkey.url!r}, socket_timeout=3)").replace(
        "emails", queue
    )
    command = [sys.executable, "-W", "error", "-c", code]
    async with connect(valkey.url) as backend:
        for run in range(2):
            consumer = processes.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                await asyncio.sleep(1.5 * run)  # more than one empty read
                await DelayedQueue(backend, queue).schedule({"to": "ada@example.com"}, job_id=f"ada-{run}")
                await Promoter(backend, queue).run(until_idle=True)
                line = await asyncio.to_thread(present(consumer.stdout).readline)
            finally:
                consumer.kill()
            _, said = consumer.communicate()
            assert line == f"ada-{run} {{'to': 'ada@example.com'}}\n", said


@pytest.mark.parametrize("source", PAGES, ids=lambda path: path.stem)
def test_a_page_that_uses_the_command_installs_it(source):
    text = source.read_text()
    extras = {x for found in re.findall(r"promoter-core\[([\w,]+)\]", text) for x in found.split(",")}
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.S | re.M)
    if extras and any(re.search(r"^(?:\$ )?promoter (?!demo)", block, re.M) for block in blocks):
        assert extras & {"cli", "tui", "ui", "all"}
