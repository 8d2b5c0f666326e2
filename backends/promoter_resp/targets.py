"""`Targets`: finds processes with different options for one layout, which deliver to different targets.

The options of the promoting process decide where due jobs go. Each process records its own beside the queue, and warns
once when another's differ. The record expires some days after a process last read it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from promoter_core.spi import (
    REHEARSAL,
    BackendError,
    Finding,
    Layout,
    PermanentError,
    Severity,
    ToList,
    ToStream,
    to_text,
)
from promoter_resp.driver import Call, Driver, Script

log = logging.getLogger("promoter.resp")

TARGET = Script("target")
RECORD = b"target"  # suffix of the record's key, after the queue's prefix

KEPT_MS = 3 * 86_400_000
LOOK_AGAIN_S = 6 * 3_600.0
MOST = 100_000  # maximum number of queues remembered
LOOKED_AT_S = 2.0  # maximum time for a diagnosis's search


def described(layout: Layout, queue: str) -> str:
    """Describe how and where due jobs of a queue are added, such as `LPUSH celery`.

    Empty for a layout without a target.
    """
    move = layout.move
    if not layout.target or not isinstance(move, ToStream | ToList):
        return ""
    target = to_text(layout.keys_of(queue).stream)
    if isinstance(move, ToList):
        return f"{move.side.value[0].upper()}PUSH {target}"
    return " ".join([f"XADD {target}", *(f"{field}={part}" for field, part in move.fields)])


class Targets:
    """The records of the queues that a process schedules in or promotes."""

    def __init__(self, driver: Driver, layout: Layout) -> None:
        self._driver, self._layout = driver, layout
        self._looked_s: dict[tuple[str, bool], float] = {}  # by queue, and whether this process leads it
        self._said: set[tuple[str, str]] = set()

    async def note(self, queues: Sequence[str], *, leading: bool = False) -> None:
        """Record where these queues' jobs go, every few hours, and warn of processes with different targets."""
        if not self._layout.target:
            return
        now_s = time.monotonic()
        new = [
            queue
            for queue in queues
            if now_s - self._looked_s.get((queue, leading), -LOOK_AGAIN_S) >= LOOK_AGAIN_S
            and not queue.startswith(REHEARSAL)
        ]
        if not new:
            return
        if len(self._looked_s) + len(new) > MOST:
            self._looked_s.clear()
        mine = [described(self._layout, queue) for queue in new]
        calls = [
            Call(TARGET, (self._layout.keys_of(queue).prefix + RECORD,), (target, KEPT_MS, int(leading)))
            for queue, target in zip(new, mine, strict=True)
        ]
        with suppress(PermanentError):  # without permission, options are not compared
            for queue, target, reply in zip(new, mine, await self._driver.run_scripts(calls), strict=True):
                self._looked_s[queue, leading] = now_s
                if (theirs := to_text(reply)) not in ("", target):
                    self._say(queue, theirs, target)

    def _say(self, queue: str, theirs: str, target: str) -> None:
        if (queue, theirs) not in self._said:
            self._said.add((queue, theirs))
            log.warning(
                "queue %r: due jobs go elsewhere by the options of another process (%s) than by these (%s), and the "
                "promoter's count: give all of them the layout %r with the same options",
                *(queue, theirs, target, self._layout.name),
            )

    async def findings(self) -> list[Finding]:
        """Return the queues whose jobs go elsewhere than by this process's options, within a time limit."""
        if not self._layout.target:
            return []
        found: list[Finding] = []
        with suppress(TimeoutError, BackendError):
            async with asyncio.timeout(LOOKED_AT_S):
                glob = self._layout.start + b"*" + self._layout.end + RECORD
                async for page in self._driver.scan(glob):
                    found += [finding for key in page if (finding := await self._compare(key)) is not None]
        return found

    async def _compare(self, key: bytes) -> Finding | None:
        of = self._layout.queue_of(key)
        reply = await self._driver.command(key, b"GET", key)
        if of is None or reply is None or (theirs := to_text(reply)) == (target := described(self._layout, of[0])):
            return None
        return Finding(
            Severity.PROBLEM,
            f"queue {of[0]!r}: due jobs go elsewhere ({theirs}) than by these options ({target})",
            "give doctor, producers and promoters the same layout with the same options",
        )
