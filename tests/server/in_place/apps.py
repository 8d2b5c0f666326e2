"""Runs the apps of other frameworks, and compares what is in a store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from promoter_core import connect
from tests import processes
from tests.contract.test_layouts import writes_of_scripts
from tests.servers import required
from tests.typed import present

HERE = Path(__file__).parent


def need(name, *parts):
    """Skip where a framework is not installed; fail where PROMOTER_REQUIRE names it."""
    missing = [part for part in parts if shutil.which(part) is None and not Path(part).exists()]
    if missing:
        (pytest.fail if name in required() else pytest.skip)(f"{name} is not installed: {', '.join(missing)}")


async def all_wait(client, source, count, produce):
    """Produce jobs far enough ahead: one that is due when its producer has started does not wait."""
    ahead_s = 1.5
    while await client.zcard(source) < count:
        await client.flushdb()
        await produce(ahead_s)
        ahead_s *= 2


class App:
    """A framework's app on one database: `run` does one thing, `running` keeps a worker."""

    def __init__(self, command, url, **environment):
        self.command = command
        self.environment = os.environ | {"REDIS_URL": url} | environment

    def run(self, *arguments, lines=()):
        """The words that it printed."""
        return [word for line in self.lines(*arguments, lines=lines) for word in line.split()]

    def lines(self, *arguments, lines=()):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        command = [*self.command, *arguments]
        done = processes.run(command, env=self.environment, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @contextlib.contextmanager
    def running(self, *command):
        words = command or (*self.command, "work")
        process = processes.Popen(words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def promoting(url, layout, *queues):
    """`promoter run` in another process, to be killed."""
    where = [part for queue in queues for part in ("--queue", queue)]
    command = [sys.executable, "-m", "promoter_core", "run", "--url", url, "--layout", layout, *where]
    process = processes.Popen([*command, "--lock-ttl-ms", "2000"], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        present(process.stderr).close()


async def contents(client, *, decode=bytes, leave_out=()):
    """Everything in a database but our own keys: the type, the time to live and the value of each key."""
    found = {}
    for key in sorted(await client.keys("*")):
        if key.startswith((b"promoter-in-place:", *leave_out)):
            continue
        kind = (await client.type(key)).decode()
        match kind:
            case "list":
                value = [decode(one) for one in await client.lrange(key, 0, -1)]
            case "set":
                value = await client.smembers(key)
            case "zset":
                value = await client.zrange(key, 0, -1, withscores=True)
            case "hash":
                value = await client.hgetall(key)
            case _:
                value = await client.dump(key)
        found[key] = kind, await client.pttl(key) >= 0, value
    return found


async def copied(source, target, *keys):
    for key in keys:
        await target.restore(key, 0, await source.dump(key))


class OnAServer:
    """Fixtures of `InPlaceContract` for a subclass with a `layout`, a `server` and a `client` of it."""

    layout: str

    @pytest.fixture
    async def restricted(self, server, client):
        async with contextlib.AsyncExitStack() as stack:

            async def restricted(words):
                await client.execute_command(
                    "ACL", "SETUSER", "restricted", "reset", "on", ">pw", *words, "+psubscribe"
                )
                url = f"redis://restricted:pw@{server.address}/0"
                return await stack.enter_async_context(connect(url, layout=self.layout))

            yield restricted

    @pytest.fixture
    async def written(self, server, client):
        async with writes_of_scripts(server, client) as written:
            yield written
