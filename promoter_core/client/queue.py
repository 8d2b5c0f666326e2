"""`DelayedQueue`: what an application uses to schedule, see, change and cancel the delayed jobs of one queue."""

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

CHECKED_AT_ONCE = 1_000  # jobs, before others have their turn in the event loop


class DelayedQueue(Looking, Changing, Sweeping, Retrying):
    """Schedules, shows, changes and cancels the delayed jobs of one queue. Cheap to make; share the backend."""

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

        `data` is what the serializer packs. `delay` is a timedelta or seconds from the store's clock, `at` an aware
        datetime; a job that is due already is due now, and is promoted as any other. `name` (≤ 256 bytes) tells
        consumers what to run. With `job_id` (1 to 512 bytes) the id is taken while the job waits and for `keep_id_for`
        after its promotion: seconds or a timedelta, 0 to 366 days, an hour by default. `index=False` saves a key per
        job without a `job_id`; `cancel` then has to look for the job in the set. By default it is the queue's. Names
        and ids are UTF-8 text. `traceparent` and `tracestate` are the producer's trace context (W3C), which consumers
        get with the job; by default that of the current span, where the program uses OpenTelemetry, and none for None.
        `attempt` is how often the job has run.

        `on_repeat` says what a call does whose `job_id` is taken:

        - `"keep"`: nothing. The outcome is KEPT or ALREADY_PROMOTED, and `created` is False: safe to try again after a
          lost reply.
        - `"replace"`: this job takes the place of the one that waits. REPLACED.
        - `"extend"`: the one that waits gets this due time, and keeps all else. MOVED. This is debouncing.
        - `"error"`: JobExistsError.

        With "replace" and "extend" the job is CREATED when none waits, even if its id is still taken by a promotion.

        Raises JobError before anything is written; TransientError when the store could not be asked (it may have
        taken the job: give a `job_id` to be able to repeat safely); PermanentError.
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
        """Schedule many jobs in few round trips; each is atomic for itself, the answers are in order.

        All jobs are checked before the first is written. Neighbours with the same kind of `on_repeat` share round
        trips. Raises as `schedule` does; JobExistsError after all jobs have had their turn.
        """
        if isinstance(jobs, Job | str | bytes | Mapping) or not isinstance(jobs, Iterable):
            raise JobError(f"schedule_many takes several Job(data=…, delay=…), not {shown_value(jobs)}")
        maker, requests, left = self._maker(), list[JobRequest](), iter(jobs)
        repeats: dict[int, OnRepeat] = {}  # by the job's place, but for "keep"
        while some := list(islice(left, CHECKED_AT_ONCE)):
            if requests:
                await asyncio.sleep(0)  # so that a million of them does not hold up a promoter of this process
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
                f"job id {taken[0].id!r} is taken: {'its job waits' if waits else 'it was promoted lately'}{more}",
                id=taken[0].id,
                outcome=taken[0].outcome,
                answers=tuple(answers),
            )
        return tuple(answers)

    async def stats(self) -> QueueStats:
        """Depth, due and parked jobs, who leads, the lengths of the streams: all at one moment."""
        return await self._backend.stats(self.name)
