"""Calls of a driver within the contract: bounded in time, complete, and raising only Promoter's errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from promoter_core.spi.errors import BackendError, PermanentError, TransientError
from promoter_core.spi.lifecycle import Lifecycle, closed_error

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable:
    """Decides which of a driver's errors are permanent. The list is closed: every other error is transient.

        ERRORS = ErrorTable(
            code=lambda exc: getattr(exc, "sqlstate", None),
            classes=[(psycopg.OperationalError, "CONNECTION")],
            permanent={"28P01", "42501", "CONFIG"},
            words={"XX000": "invalid page|could not read block"},
            hints={"53100": "the disk is full"},
        )
        raise ERRORS.translate(exc, "the server at db:5432") from exc

    The message contains the text of the exception. If the driver shows a password there, remove it first.
    """

    code: Callable[[BaseException], str | None] = lambda exc: None  # the code that an exception carries, if any
    classes: Sequence[tuple[type[BaseException], str]] = ()  # codes for exceptions without one; the first match counts
    permanent: Collection[str] = frozenset()  # codes of permanent errors
    words: Mapping[str, str | re.Pattern[str]] = field(
        default_factory=dict
    )  # by code: words in the message that make it permanent
    hints: Mapping[str, str] = field(default_factory=dict)  # by code: advice, added to the message

    def code_of(self, exc: BaseException) -> str:
        """Return the code of an exception: TIMEOUT for a TimeoutError, the name of its class when nothing else fits."""
        if code := self.code(exc):
            return code
        found = next((code for cls, code in self.classes if isinstance(exc, cls)), None)
        return found or ("TIMEOUT" if isinstance(exc, TimeoutError) else type(exc).__name__)

    def error(self, message: str, code: str) -> BackendError:
        """Return the error to raise, with the hint for its code."""
        words = self.words.get(code)
        stays = code in self.permanent or (words is not None and re.search(words, message) is not None)
        hint = self.hints.get(code)
        return (PermanentError if stays else TransientError)(f"{message} ({hint})" if hint else message, code=code)

    def translate(self, exc: BaseException, where: str) -> BackendError:
        """Return the error to raise for a driver's exception at `where`. A BackendError stays as it is."""
        if isinstance(exc, BackendError):
            return exc
        code, text = self.code_of(exc), str(exc).strip().splitlines()
        said = text[0] if text else "no answer in time" if code == "TIMEOUT" else type(exc).__name__
        return self.error(f"{where}: {said}", code)


async def run_call(
    call: Coroutine[Any, Any, T] | asyncio.Future[T],
    translate: Callable[[Exception], BackendError],
    life: Lifecycle | None = None,
    *,
    timeout_s: float | None = None,
    whole: bool = False,
) -> T:
    """Return the result of a driver's call. Raises only BackendErrors; once `life` is over, with the code CLOSED.

    `translate` turns an exception into the error to raise; after `timeout_s` seconds, it receives a TimeoutError. A
    call that times out, or whose caller is cancelled, is cancelled. With `whole`, it runs to its end unobserved
    instead, as work in a thread does in any case.

        row = await run_call(db.fetchrow(sql), translate, life, timeout_s=5)
        rows = await run_call(loop.run_in_executor(thread, work), translate, life, timeout_s=30, whole=True)
    """
    if life is not None and life.is_closed:
        call.close() if isinstance(call, Coroutine) else call.cancel()
        raise closed_error()
    try:
        if timeout_s is None and not whole:
            return await call
        if whole:
            return await _whole(asyncio.ensure_future(call), timeout_s)
        async with asyncio.timeout(timeout_s):
            return await call
    except BackendError:
        raise
    except Exception as exc:
        if life is not None and life.is_closed:
            raise closed_error() from None
        raise translate(exc) from exc


async def _whole(call: asyncio.Future[T], timeout_s: float | None) -> T:
    try:
        await asyncio.wait((call,), timeout=timeout_s)
        if call.done():
            return call.result()
        raise TimeoutError
    finally:
        if not call.done():
            call.add_done_callback(_look_at)


def _look_at(call: asyncio.Future[Any]) -> None:
    """Retrieve the call's error, so that asyncio does not log it."""
    if not call.cancelled():
        call.exception()
