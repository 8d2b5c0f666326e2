"""`DelayedQueue`: schedules, shows, changes and cancels the delayed jobs of one queue, for applications."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby, islice

from promoter_core.client.changing import Changing
from promoter_core.client.looking import Looking
from promoter_core.client.requests import Delay, Job, OnRepeat, shown_value
from promoter_core.client.retrying import Retrying
from promoter_core.client.sweeping import Sweeping
from promoter_core.spi.errors import JobError, JobExistsError
from promoter_core.spi.model import JobOutcome, JobRequest, QueueStats, Scheduled
from promoter_core.spi.optional.management import Replace

CHECKED_AT_ONCE = 1_000  # jobs between two yields to the event loop


class DelayedQueue(Looking, Changing, Sweeping, Retrying):
    """Schedules, shows, changes and cancels the delayed jobs of one queue. Cheap to create; share the backend."""

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
        tracestate: str | None = "",
        attempt: int = 0,
        on_repeat: OnRepeat = "keep",
        keep_id_for: Delay | None = None,
    ) -> Scheduled:
        """Schedule one job.

        `data` is packed by the queue's serializer. `delay` is a timedelta or seconds from the store's clock; `at` is an
        aware datetime. With neither, and with a time in the past, the job is due now; it is promoted like any other.
        `name` (at most 256 bytes) tells consumers what to run. With `job_id` (1 to 512 bytes), the id is taken while
        the job waits and for `keep_id_for` after its promotion: seconds or a timedelta, 0 to 366 days, an hour by
        default. `index=False` saves one key for a job without a `job_id`, but `cancel` then has to search the set; the
        default is the queue's. Names and ids are UTF-8 text. `traceparent` and `tracestate` are the producer's trace
        context (W3C), which consumers receive with the job. The default is the context of the current span if the
        program uses OpenTelemetry; None means no context. `attempt` is the number of earlier runs.

        `on_repeat` says what to do when the `job_id` is taken:

        - `"keep"`: nothing. The outcome is KEPT or ALREADY_PROMOTED, and `created` is False. A retry after a lost reply
          is safe.
        - `"replace"`: replace the waiting job with this one. REPLACED.
        - `"extend"`: give the waiting job this due time and keep the rest. MOVED. Use it for debouncing.
        - `"error"`: raise JobExistsError.

        With "replace" and "extend", the job is CREATED when none is waiting, even if a promotion still keeps its id
        taken.

        Raises JobError before anything is written; TransientError when the store could not be reached or its reply was
        lost (the job may have been scheduled: with a `job_id`, repeat the call safely); PermanentError.
        """
        job = Job(
            data=data,
            delay=delay,
            at=at,
            name=name,
            job_id=job_id,
            index=index,
            traceparent=traceparent,
            tracestate=tracestate,
            attempt=attempt,
            on_repeat=on_repeat,
            keep_id_for=keep_id_for,
        )
        return (await self.schedule_many([job]))[0]

    async def schedule_many(self, jobs: Iterable[Job]) -> tuple[Scheduled, ...]:
        """Schedule many jobs in few round trips, each atomically. The answers are in the order of `jobs`.

        All jobs are checked before the first is written. Adjacent jobs with the same kind of `on_repeat` share round
        trips. Raises the errors of `schedule`; JobExistsError only after all jobs have been handled.
        """
        if isinstance(jobs, Job | str | bytes | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"schedule_many takes several Job(data=…, delay=…), not {shown_value(jobs)}")
        maker, requests, left = self._maker(), list[JobRequest](), iter(jobs)
        repeats: dict[int, OnRepeat] = {}  # by the job's position, except for "keep"
        while some := list(islice(left, CHECKED_AT_ONCE)):
            if requests:
                await asyncio.sleep(0)  # so that a million jobs do not block a promoter in this process
            first = len(requests)
            requests += maker.make(some)
            if not maker.keeps:
                repeats |= {first + i: job.on_repeat for i, job in enumerate(some) if job.on_repeat != "keep"}
        if not repeats:
            return await self._backend.schedule(self.name, requests) if requests else ()
        return await self._schedule_repeats(requests, repeats)

    async def _schedule_repeats(
        self, requests: list[JobRequest], repeats: Mapping[int, OnRepeat]
    ) -> tuple[Scheduled, ...]:
        if changing := next((repeat for repeat in repeats.values() if repeat != "error"), None):
            self._managed(f'schedule with on_repeat="{changing}"')
        answers: list[Scheduled] = []
        places = range(len(requests))
        for changes, run in groupby(places, lambda i: repeats.get(i, "keep") in ("replace", "extend")):
            some = list(run)
            if not changes:
                answers += await self._backend.schedule(self.name, [requests[i] for i in some])
                continue
            outcomes = await self._change(
                [Replace(request=requests[i], keep_data=repeats[i] == "extend", search=False) for i in some], "schedule"
            )
            answers += [Scheduled(requests[i].id, outcome) for i, outcome in zip(some, outcomes, strict=True)]
        taken = [answers[i] for i, repeat in repeats.items() if repeat == "error" and not answers[i].created]
        if taken:
            waits = taken[0].outcome is JobOutcome.KEPT
            more = f", and {len(taken) - 1:,} more" if len(taken) > 1 else ""
            raise JobExistsError(
                f"job id {taken[0].id!r} is taken: {'its job waits' if waits else 'it was promoted recently'}{more}",
                id=taken[0].id,
                outcome=taken[0].outcome,
                answers=tuple(answers),
            )
        return tuple(answers)

    async def stats(self) -> QueueStats:
        """Return depth, due and parked jobs, the leader and the lengths of the streams, all at one moment."""
        return await self._backend.stats(self.name)
