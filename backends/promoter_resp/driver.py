"""`Driver`: the small interface that a client library must provide for `RespBackend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from typing import Any, NamedTuple, Protocol

from promoter_core.spi import QueueKeys, Wake
from promoter_resp.rendering import CHASQUI, Form, render

SCANNED = 500  # keys examined in one step of `scan`

Arg = bytes | str | int
Changed = Callable[[bytes | None], None]  # the key that changed; None if any key may have changed


@dataclass(frozen=True)
class Script:
    """A Lua script of this package, by the name of its file, rendered for a form of layout."""

    name: str
    form: Form = CHASQUI

    @cached_property
    def source(self) -> str:
        return render(self.name, self.form)

    @cached_property
    def sha(self) -> str:
        return sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[Arg]
    timed: bool = False  # whether its reply in `Driver.run_tracked` is a `Timed`


class Timed(NamedTuple):
    """A reply, and how long the server worked on the call by its own clock; None when unknown."""

    reply: Any
    work_ms: float | None


def between_ms(before: Any, after: Any) -> float | None:
    """Return the milliseconds between two replies of TIME; None for an invalid reply, or if the clock was set back."""
    try:
        ms = (int(after[0]) - int(before[0])) * 1e3 + (int(after[1]) - int(before[1])) / 1e3
    except (TypeError, ValueError, LookupError):
        return None
    return ms if ms >= 0 else None


class Driver(Protocol):
    """A connection to one server or cluster. Raises only TransientError and PermanentError, according to `errors.py`.

    Replies are bytes, int, None or list; never decoded text. A call is sent once, and never again after a lost reply. A
    flushed script (NOSCRIPT) is loaded again below this contract.
    """

    durable: bool
    shared: bool
    clustered: bool  # whether one call is limited to keys of the same slot

    @property
    def wake(self) -> Wake:
        """How well `track_writes` currently works."""
        ...

    async def open(self) -> None:
        """Connect and check that the server answers."""
        ...

    async def close(self) -> None: ...

    async def run_tracked(self, calls: Sequence[Call]) -> list[Any]:
        """Run `lock`, `promote` or `renew`, for several queues in one round trip to each server.

        With tracking, they run on the connection whose reads the server remembers. A failed call has its BackendError
        instead of a reply; an error that concerns all calls is raised.

        A timed call has TIME before and after it, in the same write, because TIME inside a script stands still. No
        other client's command comes between them, as long as the server reads them at once.
        """
        ...

    async def run_scripts(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        """Run scripts in one round trip and in order, never on the tick connection. Raises when one fails.

        With `after`, that command follows on the same connection, and its reply is the last.
        """
        ...

    async def command(self, key: bytes, *args: Arg) -> Any:
        """Run one command on `key`, which selects the node of a cluster."""
        ...

    async def track_writes(self, keys: QueueKeys, changed: Changed) -> None:
        """Have `changed` called for writes to `keys.delayed` and `keys.lock`, as well as `wake` says.

        Called before every `lock`, so it must be fast once it is set up. Never raises for missing support; `wake` is
        then POLL.
        """
        ...

    async def subscribe(self, changed: Changed) -> None:
        """Have `changed` also called for what any process announces on the channels CHANNELS."""
        ...

    def scan(self, match: bytes) -> AsyncIterator[Sequence[bytes]]:
        """Yield keys that match a glob of the server, on all servers; each step reads a few hundred."""
        ...
