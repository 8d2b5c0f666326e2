"""`WaitingJobs`: reads and changes the jobs of a sorted set, some a call, on any client's `Driver`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promoter_core.spi import (
    CHASQUIMQ,
    KEEP_ID_MS,
    MAX_DUE_MS,
    JobChange,
    JobOutcome,
    JobPage,
    JobQuery,
    Layout,
    QueueKeys,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
    TransientError,
    chunked,
    pack_trace,
    to_bytes,
)
from promoter_resp import replies
from promoter_resp.driver import Arg, Call, Driver, Script
from promoter_resp.schedule_calls import CHUNK_BYTES, CHUNK_JOBS
from promoter_resp.stored_replies import (
    LookedAt,
    cursor_of,
    list_reply,
    look_reply,
    member_of,
    place_of,
    stored_job,
)

LOOK, JOBS, LIST, COUNT = Script("look"), Script("jobs"), Script("list"), Script("count")

PIPELINED_CALLS = 16
LOOKED_AT_MOST = 10_000  # jobs searched for those without an index, earliest first
LOOKED_AT_ONCE = 1_000  # jobs searched in one script call
SOUGHT_AT_ONCE = 1_000  # ids searched for in one script call
LISTED_AT_ONCE = 1_000  # jobs examined in one script call
DETAILED_AT_ONCE = 200  # jobs read with details in one script call
LISTED_BYTES = 1024 * 1024  # bytes of members on a page
COUNTED_AT_ONCE = 5_000  # bounds counted in one script call
WAIT_SPARE_MS = 1_000  # part of a call's time that is not used for waiting for replicas

# Ways in which change.lua and jobs.lua find a job.
BY_INDEX, BY_INDEX_ALONE, BY_MEMBER, LOOKED_FOR, NOT_IN_ALL, NOT_IN_PART = b"?", b"-", b"=", b"#", b"!", b"~"
AMONG_FIRST = b""  # search for the job, but only among the first
UNSURE, UNSURE_DUE = 2, 8
OUTCOMES = {
    0: JobOutcome.NOT_FOUND,
    1: JobOutcome.REMOVED,
    3: JobOutcome.ALREADY_PROMOTED,
    4: JobOutcome.CREATED,
    5: JobOutcome.MOVED,
    6: JobOutcome.PROMOTED,
    7: JobOutcome.REPLACED,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job, as passed to jobs.lua and change.lua. `place` is its index in the request."""

    place: int
    id: bytes
    how: bytes = BY_INDEX
    member: bytes = b""


class Replicas:
    """How many replicas must have received a write before it is acknowledged."""

    def __init__(self, count: int, timeout_ms: int) -> None:
        self.count = count
        self._wait_ms = max(timeout_ms // 2, timeout_ms - WAIT_SPARE_MS, 1)

    async def run(self, driver: Driver, calls: Sequence[Call]) -> list[Any]:
        """Run scripts and wait for the replicas. Raises TransientError when too few have them in time."""
        if not self.count:
            return await driver.run_scripts(calls)
        *answers, reached = await driver.run_scripts(calls, (b"WAIT", self.count, self._wait_ms))
        if not isinstance(reached, int) or reached < self.count:
            raise TransientError(
                f"scheduled, but only {reached} replicas have it, not wait_replicas={self.count}: "
                "give a job_id, and schedule it again to be sure",
                code="NOREPLICAS",
            )
        return answers


class WaitingJobs:
    """Implements `ManagementSupport` for `RespBackend`.

    A job without an index is searched for in steps, and then identified by its member.
    """

    def __init__(self, driver: Driver, layout: Layout, replicas: Replicas, head_changed: Callable[[str], None]) -> None:
        """`head_changed` is called with a queue whose head one of our changes has replaced."""
        self._driver = driver
        self._keys = layout.keys_of
        self._change_script = Script("change", layout.move)
        self._replicas = replicas
        self._head_changed = head_changed

    async def mark(self, queue: str) -> None:
        """Mark the ids of all jobs that are long overdue as taken, some at a time, each once."""
        at = LookedAt()
        while not at.end:
            at = await self._look(queue, at, ())

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        jobs: list[StoredJob | None] = [None] * len(ids)
        unsure = await self._get(queue, [Wanted(i, to_bytes(id)) for i, id in enumerate(ids)], jobs)
        found = await self._find(queue, unsure)
        await self._get(queue, [wanted for wanted in found if wanted.how == LOOKED_FOR], jobs)
        return jobs

    async def _get(self, queue: str, wanted: Sequence[Wanted], jobs: list[StoredJob | None]) -> list[Wanted]:
        """Fill `jobs`, and return those that have to be searched for."""
        k = self._keys(queue)
        left, unsure = list(wanted), list[Wanted]()
        while left:
            chunks = chunked(left, CHUNK_JOBS, size=lambda one: len(one.member), max_size=CHUNK_BYTES)[:PIPELINED_CALLS]
            rest = left[sum(map(len, chunks)) :]
            calls = [
                Call(
                    JOBS, (k.delayed,), (*_prefixes(k), *(arg for one in some for arg in (one.id, one.how, one.member)))
                )
                for some in chunks
            ]
            left = []
            for some, reply in zip(chunks, await self._driver.run_scripts(calls), strict=True):
                rows = reply if isinstance(reply, list) and reply else [0] * len(some)  # the reply may be incomplete
                for one, row in zip(some, rows, strict=False):
                    jobs[one.place] = stored_job(row)
                    if row == UNSURE:
                        unsure.append(one)
                left += some[len(rows) :]
            left += rest
        return unsure

    async def page(self, queue: str, query: JobQuery) -> JobPage:
        k = self._keys(queue)
        score, member = place_of(query.after)
        look_at = query.limit if query.name is None else max(query.limit, LISTED_AT_ONCE)
        jobs: list[StoredJob] = []
        size = 0
        name = () if query.name is None else (to_bytes(query.name),)
        while True:
            args: tuple[Arg, ...] = (
                *_prefixes(k),
                min(query.limit - len(jobs), DETAILED_AT_ONCE if query.want_details else LISTED_AT_ONCE),
                min(look_at, LISTED_AT_ONCE),
                int(query.reverse),
                int(query.want_details),
                b"" if query.due_from_ms is None else _before(query.due_from_ms),
                b"" if query.due_to_ms is None else _before(query.due_to_ms),
                score,
                member,
                *name,
            )
            (reply,) = await self._driver.run_scripts([Call(LIST, (k.delayed,), args)])
            step = list_reply(reply, details=query.want_details)
            jobs += step.jobs
            size, look_at, score, member = size + step.size, look_at - step.looked, step.score, step.member
            if not score or look_at <= 0 or len(jobs) >= query.limit or size >= LISTED_BYTES:
                return JobPage(jobs=tuple(jobs), cursor=cursor_of(score, member), now_ms=step.now_ms)

    async def count(self, queue: str, bounds_ms: Sequence[int]) -> list[int]:
        k = self._keys(queue)
        chunks = chunked([_before(bound_ms) for bound_ms in bounds_ms], COUNTED_AT_ONCE)
        counts: list[int] = []
        answers = await self._driver.run_scripts([Call(COUNT, (k.delayed,), some) for some in chunks]) if chunks else []
        for some, reply in zip(chunks, answers, strict=True):
            counts += replies.integers(reply, len(some))
        return counts

    async def change(self, queue: str, changes: Sequence[JobChange]) -> list[JobOutcome]:
        outcomes = [JobOutcome.NOT_FOUND] * len(changes)
        unsure = await self._change(queue, changes, [_wanted(i, change) for i, change in enumerate(changes)], outcomes)
        await self._change(queue, changes, await self._find(queue, unsure), outcomes)
        return outcomes

    async def _change(
        self, queue: str, changes: Sequence[JobChange], wanted: Sequence[Wanted], outcomes: list[JobOutcome]
    ) -> list[Wanted]:
        """Fill `outcomes`. Return the changes whose jobs have to be searched for, with later changes of these jobs."""
        k = self._keys(queue)
        unsure: list[Wanted] = []
        waiting_for: set[bytes] = set()  # ids of those jobs
        left = [(one, _args(changes[one.place])) for one in wanted]
        # A reply may be incomplete. Changes of the same job keep their order, and jobs run in the given order.
        in_order = len({one.id for one in wanted}) < len(wanted) or any(isinstance(one, RunNow) for one in changes)
        most = 1 if in_order else PIPELINED_CALLS
        while left:
            chunks = chunked(left[: most * CHUNK_JOBS], CHUNK_JOBS, size=_size, max_size=CHUNK_BYTES)[:most]
            rest = left[sum(map(len, chunks)) :]
            calls, lasting, some, left = [], False, [], []
            for whole in chunks:
                chunk = [pair for pair in whole if pair[0].id not in waiting_for]
                unsure += [one for one, _ in whole if one.id in waiting_for]
                some.append(chunk)
                args: list[Arg] = [*_prefixes(k), k.wake]
                kinds = {type(changes[one.place]) for one, _ in chunk}
                for one, (kind, *more) in chunk:
                    args += (kind, one.id, one.how, one.member, *more)
                keys = (k.delayed, k.stream, k.events) if RunNow in kinds else (k.delayed,)
                lasting = lasting or Replace in kinds
                calls.append(Call(self._change_script, keys, args))
            run = self._replicas.run(self._driver, calls) if lasting else self._driver.run_scripts(calls)
            for chunk, reply in zip(some, await run, strict=True):
                head, answers = replies.change_reply(reply, len(chunk))
                if head:
                    self._head_changed(queue)
                for (one, _), answer in zip(chunk, answers, strict=False):
                    if answer in (UNSURE, UNSURE_DUE):
                        near = answer == UNSURE_DUE and one.how == BY_INDEX_ALONE
                        unsure.append(Wanted(one.place, one.id, AMONG_FIRST) if near else one)
                        waiting_for.add(one.id)
                    outcomes[one.place] = OUTCOMES.get(answer, JobOutcome.NOT_FOUND)
                left += chunk[len(answers) :]
            left += rest
        return unsure

    async def _find(self, queue: str, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Search for jobs among the first LOOKED_AT_MOST jobs of the set, and return how each is found now."""
        found: list[Wanted] = []
        far = list(dict.fromkeys(one.id for one in wanted if one.how in (BY_INDEX, BY_INDEX_ALONE)))
        near = list(dict.fromkeys(one.id for one in wanted if one.how == AMONG_FIRST))
        members: dict[bytes, bytes] = {}
        ends: dict[bytes, bytes] = {}
        pieces = [(ids, LOOKED_AT_MOST) for ids in chunked(far, SOUGHT_AT_ONCE)]
        for some, most in [*pieces, *((ids, LOOKED_AT_ONCE) for ids in chunked(near, SOUGHT_AT_ONCE))]:
            sought = dict.fromkeys(some)
            at, looked = LookedAt(), 0
            while sought and not at.end and looked < most:
                at = await self._look(queue, at, tuple(sought))
                looked += at.looked
                for id, member in at.found:
                    members[id] = member
                    sought.pop(id, None)
            ends |= dict.fromkeys(sought, NOT_IN_ALL if at.end else NOT_IN_PART)
        for one in wanted:
            if one.how not in (BY_INDEX, BY_INDEX_ALONE, AMONG_FIRST):
                found.append(one)
            elif one.id in members:
                found.append(Wanted(one.place, one.id, LOOKED_FOR, members[one.id]))
            else:
                found.append(Wanted(one.place, one.id, ends.get(one.id, NOT_IN_PART)))
        return found

    async def _look(self, queue: str, at: LookedAt, ids: Sequence[bytes]) -> LookedAt:
        k = self._keys(queue)
        args: tuple[Arg, ...] = (k.index, k.marker, LOOKED_AT_ONCE, at.score, at.member, *ids)
        (reply,) = await self._driver.run_scripts([Call(LOOK, (k.delayed,), args)])
        return look_reply(reply)


def _prefixes(k: QueueKeys) -> tuple[bytes, bytes, bytes, bytes]:
    return k.index, k.marker, k.trace, k.keep


def _before(due_ms: int) -> bytes:
    """Return the bound of ZCOUNT for jobs due before a time; parked jobs are excluded."""
    return b"(-inf" if due_ms < 1 else b"%d" % (min(due_ms, MAX_DUE_MS + 1) - 1)


def _wanted(place: int, change: JobChange) -> Wanted:
    if isinstance(change, Replace):
        return Wanted(place, to_bytes(change.request.id), BY_INDEX if change.search else BY_INDEX_ALONE)
    if isinstance(job := change.job, StoredJob):
        return Wanted(place, to_bytes(job.id or ""), BY_MEMBER, member_of(job))
    return Wanted(place, to_bytes(job))


def _args(change: JobChange) -> tuple[Arg, ...]:
    """Return the kind of a change, and the arguments of change.lua after the job."""
    match change:
        case Reschedule():
            return b"move", _when(change.delay_ms, change.due_ms)
        case RunNow():
            return b"run", change.max_stream_len, int(change.events), change.events_max_stream_len
        case Remove():
            return (b"remove",)
        case Replace(request=request):
            flags = request.unique + 2 * request.index + 4 * change.keep_data + 8 * change.keep_name
            return (
                b"replace",
                flags + 16 * change.keep_due,
                _when(request.delay_ms, request.due_ms),
                request.keep_id_ms if request.unique and request.keep_id_ms != KEEP_ID_MS else b"",
                CHASQUIMQ.encode_member(request.name, request.envelope),
                to_bytes(pack_trace(request.traceparent, request.tracestate)),
            )


def _when(delay_ms: int | None, due_ms: int | None) -> Arg:
    return due_ms if due_ms is not None else f"+{delay_ms or 0}"


def _size(one: tuple[Wanted, tuple[Arg, ...]]) -> int:
    wanted, args = one
    return len(wanted.member) + sum(len(arg) for arg in args if isinstance(arg, bytes))
