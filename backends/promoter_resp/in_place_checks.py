"""Check a set of another framework, for people to read: whether it exists, the running versions, the permissions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from glob import escape
from typing import Any

from ulid import ULID

from promoter_core.spi import (
    QUEUE,
    REHEARSAL,
    BackendError,
    DiscoverySupport,
    Finding,
    Lease,
    PromotionRequest,
    Severity,
    in_place,
    to_text,
)
from promoter_resp.diagnostics import look_at_server, rehearse, woken
from promoter_resp.driver import Call, Driver, Script

LOOKED_S = 5.0  # maximum time for searching existing keys
SHOWN = 3  # keys shown in a message
TYPES = {"llen": "list", "xlen": "stream", "smembers": "set", "zcard": "zset"}  # by the command that reads a key
BESIDE = {
    in_place.Beside.SAFE: "its own scheduler may run beside",
    in_place.Beside.SHARED_LOCK: "its own scheduler may run beside: they share its lock",
    in_place.Beside.NEVER: "its own scheduler must not run beside",
}


async def diagnose(backend: Any, driver: Driver, layout: in_place.InPlace, *, wait_replicas: int) -> list[Finding]:
    """Diagnose like other layouts, but without a job: the rehearsal moves none, and writes only Promoter's own keys."""
    name = f"{REHEARSAL}{ULID()}"
    k = layout.keys_of(name)
    findings = await look_at_server(lambda *command: driver.command(k.lock, *command), wait_replicas=wait_replicas)
    findings.append(_delivery(layout))
    try:
        act = partial(_promote, backend, driver)
        findings += await rehearse(backend, driver, name, act, "nothing can be promoted")
    finally:
        for key in (k.lock, k.events, k.dlq, layout.group_keys(name)[0]):
            with suppress(BackendError):
                await driver.command(key, b"DEL", key)
    found = await _found(backend)
    if not await _there(driver, layout, found):
        findings.append(Finding(Severity.WARNING, *await missing(driver, layout)))
    for queue in found[:1]:
        findings.append(await _permissions(driver, layout, queue))
    if (text := unknown(layout, await versions(driver, layout))) is not None:
        findings.append(Finding(Severity.WARNING, text, "compare its own scheduler's writes, or wait for a release"))
    return findings


def _delivery(layout: in_place.InPlace) -> Finding:
    tested = f"; tested with {', '.join(layout.tested)}" if layout.tested else ""
    what = f"layout {layout.name}: in place of the scheduler of {layout.owner}, on {sets(layout)}"
    return Finding(Severity.OK, f"{what}; {BESIDE[layout.beside]}{tested}")


def sets(layout: in_place.InPlace) -> str:
    """Return the keys of the sorted sets, in words."""
    names = layout.queues or ("<queue>",)
    return " and ".join(dict.fromkeys(layout.source.replace(QUEUE, name) for name in names))


async def _promote(backend: Any, driver: Driver, lease: Lease) -> list[Finding]:
    await backend.promote(lease, PromotionRequest(limit=10, max_stream_len=10))
    return [woken(driver.wake)]


async def _found(backend: DiscoverySupport) -> list[str]:
    """Return some queues, as many as are found within a limited time."""
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(LOOKED_S):
            async for page in backend.find_queues(["*"]):
                if page:
                    return list(page)
    return []


async def _there(driver: Driver, layout: in_place.InPlace, queues: Sequence[str]) -> bool:
    """Return whether one of the sets exists."""
    for key in [layout.keys_of(queue).delayed for queue in queues[:SHOWN]]:
        with suppress(BackendError):
            if await driver.command(key, b"EXISTS", key):
                return True
    return False


async def _permissions(driver: Driver, layout: in_place.InPlace, queue: str) -> Finding:
    k = layout.keys_of(queue)
    wanted = [("zremrangebyrank" if layout.take is in_place.Take.REMOVE else "zadd", to_text(k.delayed))]
    wanted += [(c, to_text(k.lock)) for c in ("get", "set", "del", "pexpire")]
    wanted += [(c, w.key.replace(QUEUE, queue).replace("*", "x")) for w in layout.all_writes for c in w.commands]
    args = [word for pair in wanted for word in pair]
    try:
        (refused,) = await driver.run_scripts([Call(Script("permitted"), (k.delayed,), args)])
    except BackendError as error:
        return Finding(Severity.WARNING, f"the permissions could not be checked: {error}")
    if refused:
        what = ", ".join(to_text(one) for one in refused)
        return Finding(Severity.PROBLEM, f"the user may not {what}", layout.acl_advice(queue))
    return Finding(Severity.OK, f"all that a promotion of {queue} writes is permitted")


async def types_of_targets(driver: Driver, layout: in_place.InPlace, queue: str) -> dict[bytes, str]:
    """Return the type of each key to which jobs of a layout without one target go, as many as a short scan finds."""
    types: dict[bytes, str] = {}
    with suppress(TimeoutError, BackendError):
        async with asyncio.timeout(LOOKED_S):
            for writes in layout.all_writes:
                wanted = next((TYPES[command] for command in writes.commands if command in TYPES), None)
                key = writes.key.replace(QUEUE, queue)
                if wanted is None:
                    continue
                if not key.endswith("*"):
                    types[key.encode()] = wanted
                    continue
                async for page in driver.scan(escape(key[:-1]).encode() + b"*"):
                    types |= dict.fromkeys(page, wanted)
    return types


async def missing(driver: Driver, layout: in_place.InPlace) -> tuple[str, str]:
    """Return a message that no set exists and one about what exists instead, which is advice."""
    there: list[str] = []
    if layout.alike:
        with suppress(TimeoutError, BackendError):
            async with asyncio.timeout(LOOKED_S):
                async for page in driver.scan(layout.alike.encode()):
                    there += [to_text(key) for key in page if not key.startswith(in_place.OWN)]
                    if len(there) >= SHOWN:
                        break
    what = f"{layout.owner} has no delayed jobs at {sets(layout)}"
    if there:
        return f"{what}; there is {', '.join(sorted(there)[:SHOWN])}", "give prefix=, or another option of the layout"
    return what, "schedule one, and look again; if there are some, the options of the layout or the database are wrong"


async def versions(driver: Driver, layout: in_place.InPlace) -> list[str]:
    """Return the running versions of the framework, if the store shows them."""
    if not layout.seen:
        return []
    key = layout.keys_of(layout.queues[0] if layout.queues else f"{REHEARSAL}versions").delayed
    try:
        (reply,) = await driver.run_scripts([Call(Script("versions", layout), (key,), ())])
    except BackendError:
        return []  # not permitted
    found = [to_text(one) for one in reply or () if isinstance(one, bytes)]
    return sorted(set(found))


def unknown(layout: in_place.InPlace, running: Sequence[str]) -> str | None:
    """Return a sentence about unsupported versions; None without any."""
    low, high = map(_numbers, layout.versions)
    odd = [v for v in running if (low and _numbers(v) < low) or (high and _numbers(v) >= high)]
    if not odd:
        return None
    made = f"{layout.versions[0]} to below {layout.versions[1]}"
    return f"layout {layout.name} is made for {layout.owner} {made}, and {', '.join(odd)} runs here"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
