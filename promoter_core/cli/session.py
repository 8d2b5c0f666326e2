"""State of one command: the registry, and a backend for one call."""

from __future__ import annotations

from functools import cache

from promoter_core.cli import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    from promoter_core import Backend, Registry

    T = TypeVar("T")

debug = False  # set by the --debug option
opened: tuple[str, str | None] = "", None  # the URL and the layout of this command
source_of: Callable[[str], Any] | None = None  # returns where typer found an option's value


@cache
def registry() -> Registry:
    """Return the registry of the whole command."""
    from promoter_core import Registry

    found = Registry()
    commands.leave_out_ours(found)
    return found


def to_stream(backend: Backend) -> bool:
    """Return whether due jobs go to a stream; with some layouts, they go to a list."""
    from promoter_core.spi import LayoutSupport

    return not isinstance(backend, LayoutSupport) or backend.layout.to_stream


def sends_text(layout: str | None) -> bool:
    """Return whether the layout's data is bytes, so that the given text is sent unchanged."""
    return layout is not None and registry().layout(layout).serializer == "raw"


def with_backend(url: str, use: Callable[[Backend], Awaitable[T]], layout: str | None = None) -> T:
    """Run `use` with the backend of `url` and that layout, which is opened before and closed afterwards."""

    import asyncio  # slow to import, and listing commands does not need it

    global opened
    opened = url, layout

    async def go() -> T:
        async with registry().connect(url, layout=layout) as backend:
            return await use(backend)

    return asyncio.run(go())


def check_lasting(backend: Backend, url: str) -> None:
    """Raise ConfigError for a backend whose jobs end with this process."""
    if not (backend.capabilities.durable or backend.capabilities.shared):
        from promoter_core import ConfigError

        raise ConfigError(
            f"{url.partition(':')[0]}:// keeps its jobs in this process, which ends here: give the URL of a server"
        )
