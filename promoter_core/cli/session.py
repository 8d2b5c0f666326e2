"""State of one command: the registry, and a backend that is open for one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TypeVar

from promoter_core import Backend, Registry

T = TypeVar("T")

debug = False  # set by the --debug option


@cache
def registry() -> Registry:
    """One for the whole command."""
    return Registry()


def with_backend(url: str, use: Callable[[Backend], Awaitable[T]]) -> T:
    """Run `use` against the backend of `url`, opened and closed around it."""

    async def go() -> T:
        async with registry().connect(url) as backend:
            return await use(backend)

    return asyncio.run(go())
