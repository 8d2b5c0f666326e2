"""`RespBackend`: the contract of `promoter_core.spi.Backend` on Lua scripts, for any client's `Driver`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice

from promoter_core.spi import (
    CHASQUIMQ,
    REHEARSAL,
    BackendError,
    Capabilities,
    ChangeFeed,
    ChangeFlags,
    ChangeKind,
    ConfigError,
    Finding,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    JobRequest,
    Layout,
    Lease,
    LeaseHeld,
    LeaseLost,
    Lifecycle,
    Members,
    Overflow,
    PermanentError,
    Phase,
    Promotion,
    PromotionRequest,
    QueueStats,
    Remove,
    Renewal,
    Scheduled,
    StoredJob,
    StreamEntry,
    StreamName,
    SystemClock,
    Ties,
    ToStream,
    chunked,
    to_bytes,
)
from promoter_resp import replies
from promoter_resp.diagnostics import diagnose
from promoter_resp.driver import Arg, Call, Driver, Script
from promoter_resp.key_types import WRONGTYPE, name_key
from promoter_resp.reclaim import Reclaimer
from promoter_resp.rendering import form_of
from promoter_resp.renewals import Renewals
from promoter_resp.schedule_calls import schedule_chunks
from promoter_resp.targets import Targets
from promoter_resp.url_options import COMMAND_TIMEOUT_MS
from promoter_resp.waiting_jobs import PIPELINED_CALLS, Replicas, WaitingJobs

UNLOCK, SCHEDULE, REQUEUE = Script("unlock"), Script("schedule"), Script("requeue")
JOIN, LEAVE, ANNOUNCE = Script("join"), Script("leave"), Script("announce")

ANNOUNCED_AT_ONCE = 500  # queues announced in one script call
TAKEN, CREATED, UNSURE, PROMOTED = 0, 1, 2, 3  # replies of schedule.lua
OUTCOMES = {TAKEN: JobOutcome.KEPT, CREATED: JobOutcome.CREATED, PROMOTED: JobOutcome.ALREADY_PROMOTED}

FUSED = frozenset({Phase.CLEANUP, Phase.EMIT})  # done by promote.lua, atomically with the promotion


class RespBackend:
    """One backend for every client: the driver moves bytes, the scripts do the work."""

    _move = "promote"  # the script that moves due jobs

    def __init__(
        self,
        driver: Driver,
        *,
        wait_replicas: int = 0,
        timeout_ms: int = COMMAND_TIMEOUT_MS,
        layout: Layout | None = None,
    ) -> None:
        """`wait_replicas`: scheduling returns only once this many replicas have the job (WAIT).

        `timeout_ms` is that of the driver's calls. WAIT ends before it, so that a missing replica is reported as such.
        `layout` defaults to CHASQUIMQ and must be the driver's. Raises ConfigError for an unsupported layout.
        """
        self._driver = driver
        self.layout = layout or CHASQUIMQ
        if driver.clustered and not self.layout.one_slot:
            raise ConfigError(
                f"layout {self.layout.name!r}: in a cluster the target {self.layout.target!r} must be in the slot of "
                "the queue's keys: leave key= out, so that it has the queue's name, or have {{queue}} in it"
            )
        self._keys = self.layout.keys_of
        self._targets = Targets(driver, self.layout)
        self._traced = isinstance(self.layout.move, ToStream) and self.layout.move.traced
        self._lock, self._promote, self._stats = (
            Script(n, form_of(self.layout)) for n in ("lock", self._move, "stats")
        )
        self._capabilities: Capabilities | None = None
        self._latest: tuple[Lease, PromotionRequest, Call] | None = None  # the last call of `promote`
        self._renewals = Renewals(self.layout)
        self._flags = ChangeFlags(SystemClock())
        self._life = Lifecycle(self._flags)
        self._reclaimer = Reclaimer(driver, self.layout, lambda queue: self._flags.set(ChangeKind.JOBS, queue))
        self._replicas = Replicas(wait_replicas, timeout_ms)
        self._waiting = WaitingJobs(
            driver, self.layout, self._replicas, lambda queue: self._flags.set(ChangeKind.JOBS, queue)
        )

    @property
    def capabilities(self) -> Capabilities:
        wake = self._driver.wake
        if self._capabilities is None or wake is not self._capabilities.wake:
            self._capabilities = Capabilities(
                wake=wake,
                fused=FUSED,
                ties=Ties.MEMBER,
                durable=self._driver.durable,
                shared=self._driver.shared,
                traces=True,
            )
        return self._capabilities

    async def open(self) -> None:
        await self._life.open(self._driver.open)

    async def close(self) -> None:
        await self._life.close(self._driver.close)

    async def lock(self, queue: str, holder: str, ttl_ms: int) -> Lease | LeaseHeld:
        self._flags.expect(ChangeKind.LOCK, queue)
        (answer,) = await self.lock_many([queue], holder, ttl_ms)
        if isinstance(answer, BackendError):
            raise answer
        return answer

    async def promote(self, lease: Lease, request: PromotionRequest) -> Promotion | LeaseLost:
        self._life.check()
        latest = self._latest
        if latest is None or latest[0] is not lease or latest[1] is not request:
            latest = self._latest = lease, request, self._promotion(lease, request)
        self._flags.expect(ChangeKind.JOBS, lease.queue)
        (reply,) = await self._driver.run_tracked([latest[2]])
        if isinstance(reply, BackendError):
            raise reply
        answer = replies.promote_reply(reply, want_traces=request.want_traces)
        if self._is_full(lease, answer):
            await self._reclaimer.make_room(lease.queue)
        return answer

    async def unlock(self, lease: Lease) -> bool:
        self._life.check()
        k = self._keys(lease.queue)
        (released,) = await self._driver.run_scripts([Call(UNLOCK, (k.lock,), (to_bytes(lease.holder), k.wake))])
        self._reclaimer.forget(lease.queue)
        if released == 1:
            # A connection is not notified of writes that it made itself, so wake its followers here.
            self._flags.set(ChangeKind.LOCK, lease.queue)
        return bool(released == 1)

    async def wait(self, queue: str, change: ChangeKind, timeout_s: float) -> bool:
        return await self._life.wait(queue, change, timeout_s)

    async def schedule(self, queue: str, jobs: Sequence[JobRequest]) -> tuple[Scheduled, ...]:
        self._life.check()
        await self._targets.note([queue])
        created = await self._schedule(queue, jobs)
        while UNSURE in created:
            unsure = [i for i, answer in enumerate(created) if answer == UNSURE]
            await self._waiting.mark(queue)
            for i, answer in zip(unsure, await self._schedule(queue, [jobs[i] for i in unsure]), strict=True):
                created[i] = answer
        return tuple(
            [
                replies.scheduled(job.id, OUTCOMES.get(answer, JobOutcome.KEPT))
                for job, answer in zip(jobs, created, strict=True)
            ]
        )

    async def _schedule(self, queue: str, jobs: Sequence[JobRequest]) -> list[int]:
        k = self._keys(queue)
        created: list[int] = []
        chunks = schedule_chunks(jobs)
        while some := list(islice(chunks, PIPELINED_CALLS)):
            calls = [
                Call(SCHEDULE, (k.delayed,), (k.index, k.marker, k.wake, k.trace, k.keep, *args)) for _, args in some
            ]
            answers = await self._replicas.run(self._driver, calls)
            for (count, _), reply in zip(some, answers, strict=True):
                created += replies.integers(reply, count)
        return created

    async def cancel(self, queue: str, ids: Sequence[str]) -> tuple[JobOutcome, ...]:
        return tuple(await self.change_jobs(queue, [Remove(job=id) for id in ids]))

    async def get_jobs(self, queue: str, ids: Sequence[str]) -> Sequence[StoredJob | None]:
        self._life.check()
        return await self._waiting.get(queue, ids)

    async def list_jobs(self, queue: str, query: JobQuery) -> JobPage:
        self._life.check()
        return await self._waiting.page(queue, query)

    async def count_jobs(self, queue: str, bounds_ms: Sequence[int]) -> Sequence[int]:
        self._life.check()
        return await self._waiting.count(queue, bounds_ms)

    async def change_jobs(self, queue: str, changes: Sequence[JobChange]) -> Sequence[JobOutcome]:
        self._life.check()
        return await self._waiting.change(queue, changes)

    async def stats(self, queue: str) -> QueueStats:
        self._life.check()
        k = self._keys(queue)
        return await self._read_stats(queue, (k.lock, k.delayed, k.stream, k.events, k.dlq))

    async def _read_stats(self, queue: str, keys: tuple[bytes, ...]) -> QueueStats:
        """Raises PermanentError, naming a key of the wrong type."""
        try:
            (reply,) = await self._driver.run_scripts([Call(self._stats, keys, ())])
        except PermanentError as exc:
            if exc.code != WRONGTYPE:
                raise
            raise await name_key(exc, self._driver, await self._types(queue)) from exc
        return replies.stats_reply(reply)

    async def _types(self, queue: str) -> dict[bytes, str]:
        """Return the type of each key that `stats` reads."""
        k, target = self._keys(queue), "stream" if self.layout.to_stream else "list"
        return {k.delayed: "zset", k.stream: target, k.events: "stream", k.dlq: "stream", k.lock: "string"}

    async def read(self, queue: str, stream: StreamName, after: str, limit: int) -> tuple[StreamEntry, ...]:
        self._life.check()
        k = self._keys(queue)
        if stream is StreamName.JOBS and not self.layout.to_stream:
            what = f"layout {self.layout.name!r} delivers to a list, which its consumers empty: it cannot be read here"
            raise PermanentError(what, code="NOSTREAM")
        key = k.stream if stream is StreamName.JOBS else k.prefix + stream.value.encode()
        low = f"({after}" if after else "-"
        return replies.stream_entries(await self._driver.command(key, b"XRANGE", key, low, b"+", b"COUNT", limit))

    async def requeue_dead_letter(self, queue: str, entry_id: str, envelope: bytes, name: str) -> bool:
        self._life.check()
        k = self._keys(queue)
        try:
            command = self.layout.move.command(envelope, name)
        except ValueError as exc:
            raise PermanentError(f"layout {self.layout.name!r} cannot deliver this: {exc}", code="NOPAYLOAD") from None
        (moved,) = await self._driver.run_scripts([Call(REQUEUE, (k.dlq, k.stream), (entry_id, *command))])
        return bool(moved == 1)

    async def delete_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> int:
        self._life.check()
        if not entry_ids:
            return 0  # XDEL needs at least one id
        k = self._keys(queue)
        return int(await self._driver.command(k.dlq, b"XDEL", k.dlq, *entry_ids))

    async def diagnose(self) -> Sequence[Finding]:
        self._life.check()
        findings = await diagnose(self, self._driver, wait_replicas=self._replicas.count)
        return [*findings, *await self._targets.findings()]

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        self._life.check()
        calls = []
        for queue in queues:
            k = self._keys(queue)
            await self._driver.track_writes(k, self._changed)
            self._flags.clear(ChangeKind.LOCK, queue)
            calls.append(Call(self._lock, (k.lock, k.delayed), (to_bytes(holder), ttl_ms)))
        answers = [
            reply if isinstance(reply, BackendError) else replies.lock_reply(reply, Lease(queue, holder, ttl_ms))
            for queue, reply in zip(queues, await self._driver.run_tracked(calls), strict=True)
        ]
        await self._targets.note([answer.queue for answer in answers if isinstance(answer, Lease)], leading=True)
        await self._targets.note(
            [queue for queue, answer in zip(queues, answers, strict=True) if isinstance(answer, LeaseHeld)]
        )
        return answers

    async def promote_many(
        self, requests: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        self._life.check()
        for lease, _ in requests:
            self._flags.clear(ChangeKind.JOBS, lease.queue)
        answers = [
            reply if isinstance(reply, BackendError) else replies.promote_reply(reply, want_traces=request.want_traces)
            for (_, request), reply in zip(
                requests, await self._driver.run_tracked([self._promotion(*one) for one in requests]), strict=True
            )
        ]
        full = [
            lease.queue for (lease, _), answer in zip(requests, answers, strict=True) if self._is_full(lease, answer)
        ]
        if full:
            await asyncio.gather(*map(self._reclaimer.make_room, full))
        return answers

    def _is_full(self, lease: Lease, answer: Promotion | LeaseLost | BackendError) -> bool:
        """Return whether the queue's stream accepted nothing although jobs are due, and room can be made."""
        if isinstance(answer, LeaseLost):
            self._reclaimer.forget(lease.queue)
        full = isinstance(answer, Promotion) and bool(answer.held_back) and not answer.promoted
        return full and isinstance(self.layout.move, ToStream)  # a list has room again when a consumer pops a job

    def _promotion(self, lease: Lease, request: PromotionRequest) -> Call:
        k = self._keys(lease.queue)
        args: tuple[Arg, ...] = (
            to_bytes(lease.holder),
            lease.ttl_ms if request.renew else 0,
            request.limit,
            request.max_stream_len,
            int(request.overflow is Overflow.HOLD),
            int(request.events),
            request.events_max_stream_len,
            int(request.want_jobs),
            k.index,
            k.trace if self._traced or request.want_traces or request.want_jobs or request.events else b"",
            k.marker,
            k.keep,
            int(request.want_traces),
        )
        return Call(self._promote, (k.lock, k.delayed, k.stream, k.events, k.dlq), args, timed=request.want_work)

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost | BackendError]:
        self._life.check()
        if not leases:
            return []
        calls = self._renewals.calls(leases, clustered=self._driver.clustered)
        answers: list[Renewal | LeaseLost | BackendError] = []
        for call, reply in zip(calls, await self._driver.run_tracked(calls), strict=True):
            count = len(call.keys) // 2
            answers += [reply] * count if isinstance(reply, BackendError) else replies.renew_reply(reply, count)
        return answers

    async def subscribe(self) -> ChangeFeed:
        self._life.check()
        await self._driver.subscribe(self._changed)
        return self._flags.subscribe()

    async def find_queues(self, patterns: Sequence[str]) -> AsyncIterator[Sequence[str]]:
        self._life.check()
        for glob in self.layout.heads_globs(patterns):
            async for page in self._driver.scan(glob):
                found = {queue for key in page if (queue := self.layout.head_of(key)) is not None}
                queues = [queue for queue in found if not queue.startswith(REHEARSAL)]
                yield [queue for queue in queues if any(fnmatchcase(queue, pattern) for pattern in patterns)]

    async def announce(self, queues: Sequence[str]) -> None:
        self._life.check()
        for some in chunked(queues, ANNOUNCED_AT_ONCE):
            keys = [self._keys(queue) for queue in some]
            messages = [part for k in keys for part in (k.wake, k.delayed)]
            # The other queues' keys are only named in messages, not accessed, so any node of a cluster can send them.
            await self._driver.run_scripts([Call(ANNOUNCE, (keys[0].delayed,), messages)])

    async def join_group(self, group: str, member: str, ttl_ms: int) -> Members:
        self._life.check()
        members, channel = self.layout.group_keys(group)
        (reply,) = await self._driver.run_scripts([Call(JOIN, (members,), (to_bytes(member), ttl_ms, channel))])
        return replies.members_reply(reply)

    async def leave_group(self, group: str, member: str) -> None:
        self._life.check()
        members, channel = self.layout.group_keys(group)
        await self._driver.run_scripts([Call(LEAVE, (members,), (to_bytes(member), channel))])

    def _changed(self, key: bytes | None) -> None:
        """Handle the driver's report of a write to a key; None: anything may have changed."""
        if key is None:
            self._flags.set_all()
            return
        change = self.layout.change_of(key)  # None for a client's probe, or an unrelated key
        if change is not None and not change[1].startswith(REHEARSAL):  # a fleet must not serve a diagnosis's queue
            self._flags.set(*change)
