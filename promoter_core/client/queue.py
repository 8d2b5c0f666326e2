"""`DelayedQueue`: what an application uses to schedule and cancel delayed jobs of one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice

from promoter_core.client.requests import Delay, Job, RequestMaker, shown_value
from promoter_core.registry import Registry
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.clock import Clock, SystemClock
from promoter_core.spi.errors import ConfigError, JobError
from promoter_core.spi.model import JobOutcome, JobRequest, QueueStats, Scheduled
from promoter_core.spi.names import check_job_id, check_queue_name
from promoter_core.spi.serializers import Serializer, find_serializer

CHECKED_AT_ONCE = 1_000  # jobs, before others have their turn in the event loop


class DelayedQueue:
    """Schedules and cancels the delayed jobs of one queue. Cheap to make; share the backend."""

    def __init__(
        self,
        backend: Backend,
        queue: str,
        *,
        index: bool = True,
        serializer: str | Serializer = "msgpack",
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`index` is that of jobs which do not give it. `serializer` packs their data: the name of an installed one, or
        of one in `registry`, or your own; consumers read with the same. `clock` stamps `created_at_ms`; due times are
        by the store's.

        Raises ConfigError; PluginError for a serializer that is not available.
        """
        if not isinstance(index, bool):
            raise ConfigError(f"index must be True or False, not {index!r}")
        self.name = check_queue_name(queue)
        self._backend = check_backend(backend)
        self._index = index
        self._serializer = find_serializer(serializer, registry)
        self._clock = clock or SystemClock()

    async def schedule(
        self,
        data: object,
        *,
        delay: Delay | None = None,
        at: datetime | None = None,
        name: str = "",
        job_id: str | None = None,
        index: bool | None = None,
        traceparent: str | None = "",
    ) -> Scheduled:
        """Schedule one job.

        `data` is what the serializer packs. `delay` is a timedelta or seconds from the store's clock, `at` an aware
        datetime; a job that is due already is due now, and is promoted as any other. `name` (≤ 256 bytes) tells
        consumers what to run. With `job_id` (1 to 512 bytes) a repeat is a no-op that answers `created=False`, while
        the job waits and for an hour after: safe to try again after a lost reply. `index=False` saves a key per job
        without a `job_id`; `cancel` then has to look for the job in the set. By default it is the queue's. Names and
        ids are UTF-8 text. `traceparent` is the producer's trace context (W3C), which the promotion's span links to.

        Raises JobError before anything is written; TransientError when the store could not be asked (it may have
        taken the job: give a `job_id` to be able to repeat safely); PermanentError.
        """
        job = Job(data=data, delay=delay, at=at, name=name, job_id=job_id, index=index, traceparent=traceparent)
        return (await self.schedule_many([job]))[0]

    async def schedule_many(self, jobs: Iterable[Job]) -> tuple[Scheduled, ...]:
        """Schedule many jobs in few round trips; each is atomic for itself, the answers are in order.

        All jobs are checked before the first is written. Raises as `schedule` does.
        """
        now_ms = self._clock.time_ms()
        if isinstance(jobs, Job | str | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"schedule_many takes several Job(data=…, delay=…), not {shown_value(jobs)}")
        maker = RequestMaker(now_ms, index=self._index, serializer=self._serializer)
        requests, left = list[JobRequest](), iter(jobs)
        while some := list(islice(left, CHECKED_AT_ONCE)):
            if requests:
                await asyncio.sleep(0)  # so that a million of them does not hold up a promoter of this process
            requests += maker.make(some)
        return await self._backend.schedule(self.name, requests) if requests else ()

    async def cancel(self, job: str | Scheduled) -> JobOutcome:
        """REMOVED: it will never be promoted, and its id is free again. NOT_FOUND: it is not there; never scheduled, or
        promoted already.

        A job without a cancel index (scheduled with `index=False`, or by another producer) is looked for in the set
        itself: among the 10,000 that are due first, a thousand at a time. One beyond those is NOT_FOUND as well.
        """
        return (await self.cancel_many([job]))[0]

    async def cancel_many(self, jobs: Iterable[str | Scheduled]) -> tuple[JobOutcome, ...]:
        """Cancel many jobs in few round trips; each is atomic for itself, the answers are in order.

        When TransientError is raised midway, some may have been removed: a repeat answers NOT_FOUND for them.
        """
        if isinstance(jobs, str | bytes | Scheduled | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"cancel_many takes a list of job ids, not {shown_value(jobs)}: cancel() takes one")
        # An id of another producer may be no UTF-8: events tell it with surrogate escapes, and so it can be given here.
        ids = [check_job_id(job.id if isinstance(job, Scheduled) else job, foreign=True) for job in jobs]
        return await self._backend.cancel(self.name, ids) if ids else ()

    async def stats(self) -> QueueStats:
        return await self._backend.stats(self.name)
