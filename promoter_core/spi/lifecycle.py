"""`Lifecycle`: the open or closed state of a backend, which also ends pending waits on close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from promoter_core.spi.change_flags import ChangeFlags
from promoter_core.spi.errors import TransientError
from promoter_core.spi.model import ChangeKind


def closed_error() -> TransientError:
    """Return the error that every method of a closed backend raises."""
    return TransientError("the backend is closed: use it inside `async with connect(…)`", code="CLOSED")


class Lifecycle:
    """The open or closed state of a backend. Each method calls `check` first, or a method that does.

    `open` and `close` can be called repeatedly and concurrently. `is_open` is True from the end of `open` until
    `close`; `is_closed` is True from `close` until the next `open`, and False before the first `close`.

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
        """Raise TransientError with the code CLOSED unless the backend is open."""
        if not self.is_open:
            raise closed_error()

    async def open(self, start: Callable[[], Awaitable[object]] | None = None) -> None:
        """Call `start` unless already open. A concurrent call waits for the first; after a failure, call it again."""
        async with self._opening:
            if not self.is_open:
                self.is_closed = False
                if start is not None:
                    await start()
                if self.is_closed:  # closed meanwhile
                    raise closed_error()
                self.is_open = True

    async def close(self, stop: Callable[[], Awaitable[object]] | None = None) -> None:
        """End every wait and call `stop`, even after a failed `open`. `stop` must tolerate being called twice."""
        self.is_open, self.is_closed = False, True
        if self._flags is not None:
            self._flags.set_all()
        if stop is not None:
            await stop()

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        """Implement `Backend.wait` with the flags. Raises TransientError as soon as the backend is closed."""
        self.check()
        assert self._flags is not None
        changed = await self._flags.wait(change, queue, timeout_s)
        self.check()
        return changed
