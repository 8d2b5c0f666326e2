"""State of one command: the registry, and a backend that is open for one call."""

from __future__ import annotations

from functools import cache

from promoter_core.cli import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from promoter_core import Backend, Registry

    T = TypeVar("T")

debug = False  # set by the --debug option


@cache
def registry() -> Registry:
    """One for the whole command."""
    from promoter_core import Registry

    found = Registry()
    commands.leave_out_ours(found)
    return found


def with_backend(url: str, use: Callable[[Backend], Awaitable[T]]) -> T:
    """Run `use` against the backend of `url`, opened and closed around it."""

    import asyncio  # takes long, and a list of commands needs none of it

    async def go() -> T:
        async with registry().connect(url) as backend:
            return await use(backend)

    return asyncio.run(go())
