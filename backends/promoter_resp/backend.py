"""`RespBackend`: the contract of `promoter_core.contracts.Backend` on Lua scripts, for any client's `Driver`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from ulid import ULID

from promoter_core.envelope import pack_envelope
from promoter_core.errors import BackendError, PermanentError, TransientError
from promoter_core.model import (
    CancelOutcome,
    Capabilities,
    Finding,
    JobRequest,
    Lease,
    LeaseHeld,
    LeaseLost,
    Phase,
    PromotedJob,
    Promotion,
    PromotionRequest,
    QueueStats,
    Scheduled,
    Severity,
    StreamEntry,
    StreamName,
    Ties,
)
from promoter_resp import replies
from promoter_resp.diagnose import diagnose, woken
from promoter_resp.driver import Arg, Call, Driver, Script
from promoter_resp.keys import SCRATCH, group_keys, keys_of
from promoter_resp.many import RespQueues, text_bytes
from promoter_resp.member import encode_member
from promoter_resp.options import COMMAND_TIMEOUT_MS
from promoter_resp.replies import LookedAt

log = logging.getLogger("promoter.resp")

DUE_S = 0.01  # until the doctor's job is due
UNLOCK, SCHEDULE, CANCEL, STATS = Script("unlock"), Script("schedule"), Script("cancel"), Script("stats")
RECLAIM, REQUEUE, LOOK = Script("reclaim"), Script("requeue"), Script("look")

CHUNK_JOBS = 100  # scheduled or cancelled by one call of a script, so that none of them holds the server for long
CHUNK_BYTES = 256 * 1024
PIPELINED_CALLS = 16
LOOKED_AT_MOST = 10_000  # jobs that `cancel` looks at for one without an index, the earliest first
LOOKED_AT_ONCE = 1_000  # of them, by one call of the script
SOUGHT_AT_ONCE = 1_000  # ids, by one call of the script
TAKEN, CREATED, UNSURE = 0, 1, 2  # what schedule.lua and cancel.lua answer
WAIT_SPARE_MS = 1_000  # of a call's time, left for all but the replicas
REFUSED_S = 60.0  # before that is tried again when it was refused
RECLAIM_S = (0.05, 1.0)  # from and to, between looks for acknowledged entries that found none

FUSED = frozenset({Phase.CLEANUP, Phase.EMIT})  # done by promote.lua, atomically with the promotion


class RespBackend(RespQueues):
    """One backend for every client: the driver moves bytes, the scripts do the work."""

    def __init__(self, driver: Driver, *, wait_replicas: int = 0, timeout_ms: int = COMMAND_TIMEOUT_MS) -> None:
        """`wait_replicas`: a scheduled job is answered for only once that many replicas have it (WAIT).

        `timeout_ms` is that of the driver's calls: WAIT ends before it, so that a missing replica is told as such.
        """
        super().__init__(driver)
        self._wait_replicas = wait_replicas
        self._wait_ms = max(timeout_ms // 2, timeout_ms - WAIT_SPARE_MS, 1)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            wake=self._driver.wake,
            fused=FUSED,
            ties=Ties.MEMBER,
            durable=self._driver.durable,
            shared=self._driver.shared,
            traces=True,
        )

    async def open(self) -> None:
        if not self._open:
            await self._driver.open()
            self._open = True

    async def close(self) -> None:
        self._open = False
        self._signals.set_all()
        await self._driver.close()

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        self._signals.expect(keys_of(queue).lock)
        (answer,) = await self.lock_many([queue], holder, ttl_ms)
        if isinstance(answer, BackendError):
            raise answer
        return answer

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        self._signals.expect(keys_of(lease.queue).delayed)
        (answer,) = await self.promote_many([(lease, request)])
        if isinstance(answer, BackendError):
            raise answer
        return answer

    async def _reclaim(self, queue: str) -> None:
        """Make room in a full stream: trim what every consumer group has acknowledged.

        Looking costs the server time, so after it found nothing it looks again later and later, up to a second.
        """
        k, now_s = keys_of(queue), time.monotonic()
        again_s, pause_s = self._reclaims.get(queue, (0.0, RECLAIM_S[0]))
        if now_s < again_s:
            return
        try:
            (trimmed,) = await self._driver.run([Call(RECLAIM, (k.stream,), ())])
        except TransientError:
            return  # the next tick will tell of it
        except PermanentError as exc:  # what is due stays held; promotion itself has not failed
            log.warning("queue %r: the full stream cannot be looked through for acknowledged entries: %s", queue, exc)
            self._reclaims[queue] = (now_s + REFUSED_S, pause_s)
            return
        if trimmed:
            self._reclaims.pop(queue, None)
            self._changed(k.delayed)  # there is room: have the held jobs promoted at once
        else:
            self._reclaims[queue] = (now_s + pause_s, min(pause_s * 2, RECLAIM_S[1]))

    async def cleanup(self, queue: str, jobs: Sequence[PromotedJob]) -> None:
        """Fused into `promote`; here for a caller that asks all the same."""
        k = keys_of(queue)
        if indexed := [k.index + text_bytes(job.id) for job in jobs if job.id is not None]:
            self._check_open()
            await self._driver.command(k.delayed, b"DEL", *indexed)

    async def emit(self, queue: str, jobs: Sequence[PromotedJob], max_stream_len: int) -> None:
        """Fused into `promote`; here for a caller that asks all the same."""
        self._check_open()
        k = keys_of(queue)
        for job in jobs:
            if job.id is not None:
                fields: list[Arg] = [b"e", b"waiting", b"id", text_bytes(job.id), b"ts", job.promoted_ms]
                fields += [b"n", text_bytes(job.name)] if job.name else []
                await self._driver.command(k.events, b"XADD", k.events, b"MAXLEN", b"~", max_stream_len, b"*", *fields)

    async def unlock(self, lease: Lease) -> bool:
        self._check_open()
        k = keys_of(lease.queue)
        (released,) = await self._driver.run([Call(UNLOCK, (k.lock,), (text_bytes(lease.holder), k.wake))])
        self._reclaims.pop(lease.queue, None)
        if released == 1:
            self._changed(k.lock)  # followers on this very connection are not told by the server
        return bool(released == 1)

    async def wait(self, queue: str, timeout_s: float, lease: Lease | None) -> bool:
        self._check_open()
        k = keys_of(queue)
        changed = await self._signals.wait(k.delayed if lease else k.lock, timeout_s)
        self._check_open()
        return changed

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        self._check_open()
        created = await self._schedule(queue, jobs)
        while unsure := [i for i, answer in enumerate(created) if answer == UNSURE]:
            await self._mark(queue)
            for i, answer in zip(unsure, await self._schedule(queue, [jobs[i] for i in unsure]), strict=True):
                created[i] = answer
        return tuple(Scheduled(job.id, answer == CREATED) for job, answer in zip(jobs, created, strict=True))

    async def _schedule(self, queue: str, jobs: Sequence[JobRequest]) -> list[int]:
        k = keys_of(queue)
        chunks = list(_chunks(jobs))
        created: list[int] = []
        for i in range(0, len(chunks), PIPELINED_CALLS):
            some = chunks[i : i + PIPELINED_CALLS]
            calls = [Call(SCHEDULE, (k.delayed,), (k.index, k.marker, k.wake, k.trace, *args)) for _, args in some]
            wait = (b"WAIT", self._wait_replicas, self._wait_ms) if self._wait_replicas else ()
            answers = await self._driver.run(calls, wait)
            if wait:
                self._check_replicas(answers.pop())
            for (count, _), reply in zip(some, answers, strict=True):
                created += replies.integers(reply, count)
        return created

    async def _mark(self, queue: str) -> None:
        """Mark the ids of all jobs that are long overdue as taken, some at a time. Each is marked once."""
        at = LookedAt()
        while not at.end:
            at = await self._look(queue, at, ())

    def _check_replicas(self, reached: Any) -> None:
        if not isinstance(reached, int) or reached < self._wait_replicas:
            raise TransientError(
                f"scheduled, but only {reached} replicas have it, not wait_replicas={self._wait_replicas}: "
                "give a job_id, and schedule it again to be sure",
                code="NOREPLICAS",
            )

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[CancelOutcome, ...]:
        self._check_open()
        k = keys_of(queue)
        chunks = [list(map(text_bytes, ids[i : i + CHUNK_JOBS])) for i in range(0, len(ids), CHUNK_JOBS)]
        removed: list[int] = []
        for i in range(0, len(chunks), PIPELINED_CALLS):
            some = chunks[i : i + PIPELINED_CALLS]
            calls = [Call(CANCEL, (k.delayed,), (k.index, k.marker, k.trace, *chunk)) for chunk in some]
            for chunk, reply in zip(some, await self._driver.run(calls), strict=True):
                removed += replies.integers(reply, len(chunk))
        unsure = [i for i, answer in enumerate(removed) if answer == UNSURE]
        for first in range(0, len(unsure), SOUGHT_AT_ONCE):
            await self._seek(queue, ids, removed, unsure[first : first + SOUGHT_AT_ONCE])
        return tuple(CancelOutcome.REMOVED if answer == 1 else CancelOutcome.NOT_FOUND for answer in removed)

    async def _seek(self, queue: str, ids: Sequence[str], removed: list[int], which: Sequence[int]) -> None:
        """Look for some of the ids in the set itself and take them out, up to LOOKED_AT_MOST jobs of it."""
        sought = {text_bytes(ids[i]): i for i in reversed(which)}  # an id that comes twice is removed once
        at, looked = LookedAt(), 0
        while sought and not at.end and looked < LOOKED_AT_MOST:
            at = await self._look(queue, at, tuple(sought))
            looked += at.looked
            for id in at.removed:
                if (i := sought.pop(id, None)) is not None:
                    removed[i] = 1

    async def _look(self, queue: str, at: LookedAt, ids: Sequence[bytes]) -> LookedAt:
        k = keys_of(queue)
        args: tuple[Arg, ...] = (k.index, k.marker, k.trace, LOOKED_AT_ONCE, at.score, at.member, *ids)
        (reply,) = await self._driver.run([Call(LOOK, (k.delayed,), args)])
        return replies.look_reply(reply)

    async def stats(self, queue: str) -> QueueStats:
        self._check_open()
        k = keys_of(queue)
        (reply,) = await self._driver.run([Call(STATS, (k.lock, k.delayed, k.stream, k.events, k.dlq), ())])
        return replies.stats_reply(reply)

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        self._check_open()
        key = keys_of(queue).prefix + stream.value.encode()
        low = f"({after}" if after else "-"
        return replies.stream_entries(await self._driver.command(key, b"XRANGE", key, low, b"+", b"COUNT", limit))

    async def requeue(self, queue: str, entry_id: str, envelope: bytes, name: str) -> bool:
        self._check_open()
        k = keys_of(queue)
        (moved,) = await self._driver.run([Call(REQUEUE, (k.dlq, k.stream), (entry_id, envelope, text_bytes(name)))])
        return bool(moved == 1)

    async def drop(self, queue: str, entry_ids: Sequence[str]) -> int:
        self._check_open()
        k = keys_of(queue)
        return int(await self._driver.command(k.dlq, b"XDEL", k.dlq, *entry_ids))

    async def diagnose(self) -> Sequence[Finding]:
        self._check_open()
        queue = f"{SCRATCH}{ULID()}"
        findings = await diagnose(
            lambda *command: self._driver.command(keys_of(queue).lock, *command), wait_replicas=self._wait_replicas
        )
        try:
            return [*findings, *await self._try_everything(queue)]
        finally:
            await self._clean(queue)

    async def _try_everything(self, queue: str) -> list[Finding]:
        """The whole life of a job on a queue of our own: what is not permitted shows."""
        try:
            lease = await self.lock(queue, "promoter doctor", 5_000)
            if isinstance(lease, LeaseHeld):
                return []  # nobody else knows this name
            jobs = [JobRequest("doctor", b"", delay_ms=60_000, unique=True), JobRequest("due", b"", "name", delay_ms=1)]
            await self.schedule(queue, jobs)
            await asyncio.sleep(DUE_S)
            await self.promote(lease, PromotionRequest(limit=10, max_stream_len=10, want_traces=True))
            wake = self._driver.wake
            await self.cancel(queue, ["doctor"])
            await self.stats(queue)
            await self.unlock(lease)
        except BackendError as error:
            return [
                Finding(Severity.PROBLEM, f"a job cannot go the whole way: {error}", "see the ACL in the reference")
            ]
        return [
            Finding(Severity.OK, "scripts and all their commands are permitted"),
            woken(wake),
            await self._try_fleet(queue),
        ]

    async def _try_fleet(self, queue: str) -> Finding:
        """What several queues in one process need besides."""
        try:
            await self.announce([queue])
            await self.join(queue, "promoter doctor", 5_000)
            await self.leave(queue, "promoter doctor")
            await self._driver.command(keys_of(queue).lock, b"SCAN", b"0", b"COUNT", 1)
        except BackendError as error:
            what = f"several queues in one process cannot be served: {error}"
            return Finding(Severity.WARNING, what, "see the ACL in the reference, if a fleet is to run here")
        return Finding(Severity.OK, "several queues can be served in one process")

    async def _clean(self, queue: str) -> None:
        """Whatever of it failed, leave nothing behind: each key by itself, and with an end where DEL is refused."""
        k = keys_of(queue)
        ids = [prefix + id for prefix in (k.index, k.marker) for id in (b"", b"doctor", b"due")]
        keys = [k.delayed, k.lock, k.stream, k.events, k.dlq, k.trace, group_keys(queue)[0], *ids]
        for key in keys:
            try:
                await self._driver.command(key, b"DEL", key)
            except BackendError:
                with suppress(BackendError):
                    await self._driver.command(key, b"PEXPIRE", key, 1_000)


def _chunks(jobs: Sequence[JobRequest]) -> Iterator[tuple[int, list[Arg]]]:
    """The script's arguments for some jobs at a time, with their number."""
    args: list[Arg] = []
    size = count = 0
    for job in jobs:
        envelope = pack_envelope(job.id, job.payload, job.created_at_ms, job.attempt)
        when = f"+{job.delay_ms or 0}" if job.due_ms is None else str(job.due_ms)
        member = encode_member(job.name, envelope)
        flags = int(job.unique) + 2 * int(job.index) + 4 * bool(job.traceparent)
        args += (text_bytes(job.id), when, flags, member)
        if job.traceparent:
            args.append(job.traceparent)
        count += 1
        size += len(member)
        if count >= CHUNK_JOBS or size >= CHUNK_BYTES:
            yield count, args
            args, size, count = [], 0, 0
    if args:
        yield count, args
