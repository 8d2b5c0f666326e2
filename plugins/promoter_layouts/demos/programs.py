"""Frameworks in other languages: whether they are installed, and how their programs schedule jobs."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from promoter_core.spi import PluginError, TransientError
from promoter_layouts.demos.workers import READY_S, process

FOLDER = Path(__file__).parent
INSTALL = {"sidekiq": "apt-get install ruby-sidekiq", "laravel": "apt-get install php-illuminate-queue php-redis"}
TITLE = {"sidekiq": "Sidekiq", "laravel": "Laravel"}
PRINTS_VERSION = {  # or fails
    "sidekiq": ("ruby", "-e", "require 'sidekiq'; puts Sidekiq::VERSION"),
    "laravel": (
        "php",
        "-r",
        "extension_loaded('redis') && file_exists('/usr/share/php/Illuminate/Redis/autoload.php') || exit(1);"
        "echo strtok(shell_exec('dpkg-query -W -f \\${Version} php-illuminate-queue') ?? exit(1), '+-');",
    ),
}


@cache
def version(framework: str) -> str:
    """Return the version of a framework that is not a Python package; "" when it is not installed."""
    try:
        done = subprocess.run(  # noqa: S603  # the commands above
            PRINTS_VERSION[framework], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def title(framework: str) -> str:
    """Return its name with the version. Raises PluginError when it is not installed."""
    if not (found := version(framework)):
        raise PluginError(f"the demo of {framework} needs {TITLE[framework]}: {INSTALL[framework]}")
    return f"{TITLE[framework]} {found}"


class Producer:
    """A program that reads one line per job, its number and due time in seconds, and answers with a line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def send(self, number: int, due_s: float | None = None) -> None:
        """Schedule a job, or send it at once. Raises TransientError when the program has ended."""
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        async with self._turn:
            to.write(f"{number}\n".encode() if due_s is None else f"{number} {due_s}\n".encode())
            try:
                await to.drain()
                answer = await asyncio.wait_for(back.readline(), READY_S)
            except (ConnectionError, TimeoutError):
                answer = b""
        if not answer:
            raise TransientError("the framework's producer schedules no job", code="TIMEOUT")


@asynccontextmanager
async def producing(url: str, arguments: Sequence[str], program: str) -> AsyncIterator[Producer]:
    """Run a producer for the server at `url` until exit."""
    async with process(url, arguments, program, talks=True) as started:
        yield Producer(started)
