"""`Lifecycle`: whether a backend is open, for all its methods, and for the waits that its end has to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from promoter_core.spi.change_flags import ChangeFlags
from promoter_core.spi.errors import TransientError
from promoter_core.spi.model import ChangeKind


def closed_error() -> TransientError:
    """The error of every method of a backend that is closed."""
    return TransientError("the backend is closed: use it inside `async with connect(…)`", code="CLOSED")


class Lifecycle:
    """Whether a backend is open. Each method calls `check` first, or one that does.

    `open` and `close` may be called again, and at the same time. `is_open` is True from the end of `open` to `close`;
    `is_closed` is True from `close` to the next `open`, and not before the first.

        class MyBackend:
            def __init__(self, url):
                self._flags = ChangeFlags(SystemClock())
                self._life = Lifecycle(self._flags)
                self._pool = Pool(url)

            async def open(self):
                await self._life.open(self._pool.connect)

            async def close(self):
                await self._life.close(self._pool.disconnect)

            async def wait(self, queue, change, timeout_s):
                return await self._life.wait(queue, change, timeout_s)

            async def stats(self, queue):
                self._life.check()
                ...
    """

    def __init__(self, flags: ChangeFlags | None = None) -> None:
        """`flags` are those that `wait` waits for."""
        self._flags = flags
        self._opening = asyncio.Lock()
        self.is_open = False
        self.is_closed = False

    def check(self) -> None:
        """Raise TransientError with the code CLOSED unless it is open."""
        if not self.is_open:
            raise closed_error()

    async def open(self, start: Callable[[], Awaitable[object]] | None = None) -> None:
        """Call `start` unless it is open. A second caller waits for the first; one that failed may be repeated."""
        async with self._opening:
            if not self.is_open:
                self.is_closed = False
                if start is not None:
                    await start()
                if self.is_closed:  # meanwhile
                    raise closed_error()
                self.is_open = True

    async def close(self, stop: Callable[[], Awaitable[object]] | None = None) -> None:
        """End every wait, and call `stop`, also after an `open` that failed: it has to bear being called twice."""
        self.is_open, self.is_closed = False, True
        if self._flags is not None:
            self._flags.set_all()
        if stop is not None:
            await stop()

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        """`Backend.wait` by the flags. Raises TransientError as soon as it is closed."""
        self.check()
        assert self._flags is not None
        changed = await self._flags.wait(change, queue, timeout_s)
        self.check()
        return changed
