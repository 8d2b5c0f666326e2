"""`Sentinels`: which server is the primary according to sentinels, and notifications when that changes.

All sentinels are asked at the same time, so an unavailable one costs nothing. Each counts the fail-overs of a service
(config-epoch), and the answer with the highest count is right. All are also watched in the background, and any one of
them is enough to follow.

In a planned fail-over, the old primary accepts writes for about a second after the replica was cut off from it, and all
of them are lost. The sentinel that leads the fail-over announces it; from then until another primary is named, nothing
is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from promoter_core.spi import BackendError, PermanentError, TransientError
from promoter_redis.errors import translate
from promoter_redis.link import Link, next_push

log = logging.getLogger("promoter.redis")

Address = tuple[str, int]

COMPARE_S = 0.05  # after the first reply, wait this long for a newer one
RETRY_S = (0.1, 0.2, 0.5, 1.0)
SWITCHED = b"+switch-master"
CUT_OFF = b"+failover-state-send-slaveof-noone"  # within 0.1 s, the replica becomes the primary
ABORTED = b"-failover-abort-slave-timeout"  # the replica has not become a primary
EVENTS = (SWITCHED, CUT_OFF, ABORTED, b"+promoted-slave", b"+failover-end")
HOLD_S = 3.0  # maximum wait from CUT_OFF until a new primary is named


class Sentinels:
    """`make` returns a connection to the sentinel at a host and a port, not connected yet.

    A sentinel has half of `timeout_s`, the timeout of a whole call, to answer.
    """

    def __init__(
        self, make: Callable[[str, int], Any], addresses: Sequence[Address], service: str, *, timeout_s: float
    ) -> None:
        self._make = make
        self._addresses = addresses
        self._service = service
        self._timeout_s = timeout_s / 2
        self._primary: Address | None = None  # None while unknown
        self._used: Address | None = None  # the address last returned
        self._epoch = 0  # the newest epoch reported by any sentinel
        self._asking = asyncio.Lock()
        self._settled = asyncio.Event()  # set while no failover is in progress
        self._settled.set()
        self._hold: asyncio.TimerHandle | None = None
        self._moved: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def primary(self) -> Address:
        """Return the primary. Raises TransientError, or PermanentError when all sentinels refuse us."""
        async with self._asking:
            if self._primary is None:
                self._primary = await self._ask()
            self._used = self._primary
            return self._primary

    async def settled(self) -> None:
        """Wait while the primary is being replaced: writes sent to it now are lost."""
        await self._settled.wait()

    def doubt(self) -> None:
        """Have the next caller ask again."""
        self._primary = None

    def follow(self, moved: Callable[[], None]) -> None:
        """Watch in the background, until `close`. `moved` is called when another server becomes the primary."""
        self._moved = moved
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._follow(address), name="promoter-sentinel") for address in self._addresses
            ]

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        self._settle()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self) -> Address:
        """Return the answer of the best-informed sentinel."""
        asking = {asyncio.create_task(self._ask_one(address)) for address in self._addresses}
        answers: list[tuple[int, Address]] = []
        errors: list[BackendError] = []
        try:
            while asking:
                new = answers and _best(answers)[0] >= self._epoch
                done, asking = await asyncio.wait(
                    asking, timeout=COMPARE_S if new else None, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for task in done:
                    try:
                        answers.append(task.result())
                    except BackendError as error:
                        errors.append(error)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if answers:
            self._epoch, address = _best(answers)
            return address
        passing = [error for error in errors if not isinstance(error, PermanentError)]
        raise (passing or errors)[0]

    async def _ask_one(self, address: Address) -> tuple[int, Address]:
        """Return the config-epoch and the primary."""
        connection = self._make(*address)
        where = f"the sentinel {address[0]}:{address[1]}"
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.connect()
                for command in ("GET-MASTER-ADDR-BY-NAME", "MASTER"):
                    await connection.send_command("SENTINEL", command, self._service, check_health=False)
                found = await connection.read_response()
                try:
                    flat = await connection.read_response()
                except ResponseError:  # an unknown service, or a missing permission
                    flat = []
        except TimeoutError:
            raise TransientError(f"{where} did not answer in time", code="TIMEOUT") from None
        except Exception as exc:
            error = translate(exc, where)
            hint = "; sentinel_username and sentinel_password are options of the URL"
            refused = error.code in ("NOAUTH", "WRONGPASS", "NOPERM")
            raise type(error)(f"{where}: {error}{hint if refused else ''}", code=error.code) from exc
        finally:
            await Link(connection).close()
        if not found:
            raise TransientError(f"{where} knows no primary named {self._service!r}", code="CONNECTION")
        epoch = dict(zip(flat[::2], flat[1::2], strict=False)).get(b"config-epoch", b"0")
        return int(epoch), (found[0].decode(), int(found[1]))

    async def _follow(self, address: Address) -> None:
        failures = 0
        while True:
            connection = self._make(*address)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await connection.connect()
                    await connection.send_command("SUBSCRIBE", *EVENTS, check_health=False)
                    for _ in EVENTS:
                        await connection.read_response()
                failures = 0
                await self._look()  # for events missed while disconnected
                await self._listen(connection)
            except Exception as exc:
                level = logging.DEBUG if failures else logging.INFO
                log.log(level, "nothing is received from the sentinel %s:%d: %s", *address, exc or type(exc).__name__)
            finally:
                with contextlib.suppress(Exception):
                    await connection.disconnect(nowait=True)
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1

    async def _listen(self, connection: Any) -> None:
        while True:
            push = await next_push(connection)
            if isinstance(push, list) and len(push) == 3 and push[1] in EVENTS:
                words = push[2].decode().split()
                if self._service in words:
                    await self._said(push[1], words)

    async def _said(self, event: bytes, words: Sequence[str]) -> None:
        if event == CUT_OFF:
            log.info("the primary of %r is about to be replaced", self._service)
            self._settle()
            self._settled.clear()
            self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._settle)
            return
        if event == ABORTED:
            self._settle()
        if event == SWITCHED:  # fields: service, old host and port, new host and port
            self._heard((words[3], int(words[4])))
        await self._look()

    async def _look(self) -> None:
        """Ask again, if anybody has asked before. Without an answer, the next caller asks."""
        if self._used is not None:
            with contextlib.suppress(BackendError):
                self._heard(await self._ask())

    def _heard(self, address: Address) -> None:
        self._primary = address
        if self._used not in (None, address):
            self._used = address
            log.info("the primary of %r is now %s:%d", self._service, *address)
            if self._moved is not None:
                self._moved()
                self._primary = address  # `moved` may invalidate it again
            self._settle()

    def _settle(self) -> None:
        self._settled.set()
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None


def _best(answers: Sequence[tuple[int, Address]]) -> tuple[int, Address]:
    """Return the first of the best-informed answers."""
    return max(answers, key=lambda answer: answer[0])
