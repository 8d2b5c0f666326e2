"""`RespBackend`: the contract of `promoter_core.contracts.Backend` on Lua scripts, for any client's `Driver`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

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
from promoter_resp.keys import keys_of
from promoter_resp.many import RespQueues, text_bytes
from promoter_resp.member import encode_member

log = logging.getLogger("promoter.resp")

UNLOCK, SCHEDULE, CANCEL, STATS = Script("unlock"), Script("schedule"), Script("cancel"), Script("stats")
RECLAIM, REQUEUE = Script("reclaim"), Script("requeue")

SCRATCH = "promoter-doctor"  # the queue on which the doctor tries everything

CHUNK_JOBS = 100  # scheduled by one call of the script, so that none of them holds the server for long
CHUNK_BYTES = 256 * 1024
PIPELINED_CALLS = 16
WAIT_MS = 2_000  # for replicas to acknowledge what was scheduled
REFUSED_S = 60.0  # before that is tried again when it was refused
RECLAIM_S = (0.05, 1.0)  # from and to, between looks for acknowledged entries that found none

FUSED = frozenset({Phase.CLEANUP, Phase.EMIT})  # done by promote.lua, atomically with the promotion


class RespBackend(RespQueues):
    """One backend for every client: the driver moves bytes, the scripts do the work."""

    def __init__(self, driver: Driver, *, wait_replicas: int = 0) -> None:
        """`wait_replicas`: a scheduled job is answered for only once that many replicas have it (WAIT)."""
        super().__init__(driver)
        self._wait_replicas = wait_replicas

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
        k = keys_of(queue)
        chunks = list(_chunks(jobs))
        created: list[int] = []
        for i in range(0, len(chunks), PIPELINED_CALLS):
            some = chunks[i : i + PIPELINED_CALLS]
            calls = [
                Call(SCHEDULE, (k.delayed, k.stream), (k.index, k.marker, k.wake, k.trace, *args)) for _, args in some
            ]
            wait = (b"WAIT", self._wait_replicas, WAIT_MS) if self._wait_replicas else ()
            answers = await self._driver.run(calls, wait)
            if wait:
                self._check_replicas(answers.pop())
            for (count, _), reply in zip(some, answers, strict=True):
                created += replies.integers(reply, count)
        return tuple(Scheduled(job.id, bool(made)) for job, made in zip(jobs, created, strict=True))

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
        (reply,) = await self._driver.run(
            [Call(CANCEL, (k.delayed,), (k.index, k.marker, k.trace, *map(text_bytes, ids)))]
        )
        removed = replies.integers(reply, len(ids))
        return tuple(CancelOutcome.REMOVED if r else CancelOutcome.NOT_FOUND for r in removed)

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
        findings = await diagnose(lambda *command: self._driver.command(keys_of(SCRATCH).lock, *command))
        return [*findings, *await self._try_everything()]

    async def _try_everything(self) -> list[Finding]:
        """The whole life of a job on a queue of our own: what is not permitted shows, and nothing is left behind."""
        try:
            lease = await self.lock(SCRATCH, "promoter doctor", 5_000)
            if isinstance(lease, LeaseHeld):
                return [Finding(Severity.WARNING, "another doctor is at work", "try again in a moment")]
            await self.schedule(SCRATCH, [JobRequest("doctor", b"", delay_ms=60_000, unique=True)])
            await self.promote(lease, PromotionRequest(limit=1, max_stream_len=1))
            wake = self._driver.wake
            await self.cancel(SCRATCH, ["doctor"])
            await self.stats(SCRATCH)
            await self.unlock(lease)
        except BackendError as error:
            return [
                Finding(Severity.PROBLEM, f"a job cannot go the whole way: {error}", "see the ACL in the reference")
            ]
        return [
            Finding(Severity.OK, "scripts and all their commands are permitted"),
            woken(wake),
            await self._try_fleet(),
        ]

    async def _try_fleet(self) -> Finding:
        """What several queues in one process need besides."""
        try:
            await self.announce([SCRATCH])
            await self.join(SCRATCH, "promoter doctor", 5_000)
            await self.leave(SCRATCH, "promoter doctor")
            await self._driver.command(keys_of(SCRATCH).lock, b"SCAN", b"0", b"COUNT", 1)
        except BackendError as error:
            what = f"several queues in one process cannot be served: {error}"
            return Finding(Severity.WARNING, what, "see the ACL in the reference, if a fleet is to run here")
        return Finding(Severity.OK, "several queues can be served in one process")


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
