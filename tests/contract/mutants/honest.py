"""Backends that are right, and offer what the memory backend does not: the base of mutants that are wrong in that."""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, replace

from promoter_core.spi import (
    MAX_DUE_MS,
    Capabilities,
    Finding,
    JobOutcome,
    Phase,
    Promotion,
    Reschedule,
    RunNow,
    Severity,
    StreamEntry,
    StreamName,
    Wake,
    to_bytes,
)
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import Pending


class FusedBackend(MemoryBackend):
    """Both phases are done by `promote`, and there is no method for them."""

    capabilities = Capabilities(Wake.ANY_WRITE, fused=frozenset(Phase), traces=True)
    cleanup = None
    emit = None

    async def promote(self, lease, request):
        answer = await super().promote(lease, replace(request, want_jobs=True))
        if not isinstance(answer, Promotion):
            return answer
        await self._clean_up(lease.queue, answer.jobs)
        if request.events and answer.jobs:
            await MemoryBackend.emit(self, lease.queue, answer.jobs, request.events_max_stream_len)
        return answer if request.want_jobs else replace(answer, jobs=())

    async def _clean_up(self, queue, jobs):
        await MemoryBackend.cleanup(self, queue, jobs)


@dataclass(slots=True)
class Malformed(Pending):
    """A member that is no job."""


class CompleteBackend(MemoryBackend):
    """Offers every optional protocol: members can be malformed, dead letters worked through, the store examined."""

    async def add_malformed(self, queue, member):
        self._store[queue].add(Malformed(f"malformed {member!r}", "", member, 1))

    async def add_parked(self, queue, request):
        self._store[queue].add(Pending(request.id, request.name, request.envelope, 2**60))

    async def get_jobs(self, queue, ids):
        return [job and self.as_it_is(job) for job in await super().get_jobs(queue, ids)]

    async def list_jobs(self, queue, query):
        page = await super().list_jobs(queue, query)
        return replace(page, jobs=tuple(map(self.as_it_is, page.jobs)))

    def as_it_is(self, job):
        """Malformed, or parked."""
        if job.id.startswith("malformed "):
            return replace(job, id=None, malformed=True)
        return replace(job, due_ms=None) if job.due_ms > MAX_DUE_MS else job

    async def change_jobs(self, queue, changes):
        return await super().change_jobs(queue, [self.of_a_member(change) for change in changes])

    def of_a_member(self, change):
        """The same for a malformed member, which has an id here."""
        if not getattr(getattr(change, "job", None), "malformed", False):
            return change
        id = f"malformed {change.job.envelope!r}"
        return Reschedule(job=id, delay_ms=0) if isinstance(change, RunNow) else replace(change, job=id)

    async def promote(self, lease, request):
        q, now_ms = self._queue(lease.queue)
        found = []
        if q.holder(now_ms) == lease.holder:
            due = [job for due_ms, _, job in q.ordered() if due_ms <= now_ms and isinstance(job, Malformed)]
            found = due[: request.limit]
        for job in found:
            self.dead_letter(q, now_ms, job)
        answer = await super().promote(lease, request)
        return replace(answer, malformed=len(found)) if isinstance(answer, Promotion) else answer

    def dead_letter(self, q, now_ms, job):
        fields = {"source_id": b"delayed", "reason": b"malformed", "detail": b"no job", "d": job.envelope}
        q.streams[StreamName.DLQ].add(now_ms, fields)
        q.cancel(job)

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        q, now_ms = self._queue(queue)
        if not self.remove(queue, entry_id):
            return False
        q.streams[StreamName.JOBS].add(now_ms, {"d": envelope} | ({"n": to_bytes(name)} if name else {}))
        return True

    async def delete_dead_letters(self, queue, entry_ids):
        return sum(self.remove(queue, id) for id in entry_ids)

    def remove(self, queue, entry_id):
        entries = self.dead_letters(queue)
        found = [entry for entry in entries if entry.id == entry_id]
        for entry in found:
            entries.remove(entry)
        return bool(found)

    def dead_letters(self, queue: str) -> list[StreamEntry]:
        q, _ = self._queue(queue)
        return q.streams[StreamName.DLQ].entries

    async def diagnose(self):
        """A job goes the whole way on a queue of which nothing is left."""
        name = f"doctor-{id(asyncio.current_task())}"
        await self.lock(name, "doctor", 1_000)
        await asyncio.sleep(0)
        self.clean(name)
        return [
            Finding(Severity.OK, "the store answers"),
            Finding(Severity.WARNING, "nothing is written to disk", "use another backend for jobs that matter"),
        ]

    def clean(self, name):
        del self._store._queues[name]


class DistantBackend(CompleteBackend):
    """Each call takes its way to the store and back, on which others come between. In the store it is atomic."""


class QueueingBackend(CompleteBackend):
    """Each call holds the store to itself for several steps, and takes effect in one of them: the others wait."""


def _distant(method):
    @functools.wraps(method)
    async def call(self, *args, **kwargs):
        for _ in range(2):
            await asyncio.sleep(0)
        answer = await method(self, *args, **kwargs)
        for _ in range(2):
            await asyncio.sleep(0)
        return answer

    return call


def _queueing(method):
    @functools.wraps(method)
    async def call(self, *args, **kwargs):
        if not hasattr(self._store, "mutex"):
            self._store.mutex = asyncio.Lock()
        async with self._store.mutex:
            await asyncio.sleep(0)
            answer = await method(self, *args, **kwargs)
            await asyncio.sleep(0)
        return answer

    return call


CALLS = ("lock", "promote", "unlock", "schedule", "cancel", "stats", "cleanup", "emit")
JOB_CALLS = ("get_jobs", "list_jobs", "count_jobs", "change_jobs")
GROUP_CALLS = ("join_group", "leave_group", "requeue_dead_letter", "delete_dead_letters")
for name in CALLS + JOB_CALLS + GROUP_CALLS:
    setattr(DistantBackend, name, _distant(getattr(CompleteBackend, name)))
    setattr(QueueingBackend, name, _queueing(getattr(CompleteBackend, name)))


def outcome_if(created):
    """The outcome of a request that a mutant took, or did not."""
    return JobOutcome.CREATED if created else JobOutcome.KEPT
