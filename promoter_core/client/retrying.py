"""The part of `DelayedQueue` that schedules failed jobs again."""

from __future__ import annotations

from datetime import datetime

from promoter_core.client.backoff import WORKERS_DEFAULT, Backoff
from promoter_core.client.base import QueueBase
from promoter_core.client.requests import MAX_ATTEMPT, Delay, due_of, shown_value
from promoter_core.client.traces import NONE, check_trace, current_trace
from promoter_core.spi.errors import JobError, RetriesExhausted
from promoter_core.spi.model import JobOutcome, JobRequest, Scheduled, StreamEntry, Ties
from promoter_core.spi.names import check_job_name
from promoter_core.spi.optional.management import Reschedule
from promoter_core.spi.wire import Envelope, repack_attempt, says_no_index, to_text, unpack_envelope


class Retrying(QueueBase):
    """Retries, for consumers."""

    async def retry(
        self,
        job: Envelope | StreamEntry | bytes,
        *,
        name: str | None = None,
        delay: Delay | None = None,
        at: datetime | None = None,
        backoff: Backoff | None = None,
        traceparent: str | None = "",
        tracestate: str | None = "",
    ) -> Scheduled:
        """Schedule a job that has failed again. Acknowledge its entry afterwards.

        `job` is the stream entry, its field `d`, or the unpacked envelope. The envelope stays the same, byte for byte,
        except for `attempt`, which is raised by one. `name` defaults to that of the entry. Give one of `delay`, `at`
        and `backoff`; without them, the job's own back-off applies, or that of ChasquiMQ's worker: 0.1 s, doubled each
        time up to 30 s, and 25 runs. Retry overrides of the job take precedence over `backoff`, and its own maximum of
        runs always counts.

        The trace continues with the given context, the current span's, or that of the entry.

        The retry does not take the id, and has an index unless the job was scheduled without. Retrying the same
        delivery twice, for example after a lost reply, moves the waiting retry instead of creating a second job. Once
        that retry has been promoted, another one is a new job with the same id and attempt: consumers that must not run
        it twice have to check both.

        Raises RetriesExhausted when the job has used up its runs, and JobError; both before anything is written. Raises
        TransientError, PermanentError.
        """
        if backoff is not None and not isinstance(backoff, Backoff):
            raise JobError(f"backoff must be a Backoff, such as Backoff.exponential(1), not {shown_value(backoff)}")
        if backoff is not None and (delay is not None or at is not None):
            raise JobError("give either backoff= or delay= or at=, not both")
        envelope, entry_name = _envelope_of(job)
        trace = self._trace_of(job, traceparent, tracestate)
        now_ms = self._clock.time_ms()
        attempts = envelope.attempt + 1
        if delay is None and at is None:
            policy = (backoff or WORKERS_DEFAULT).overridden(envelope.retry)
            _check_attempts(envelope, policy.max_attempts)
            due = due_of(policy.delay_s(attempts), None, now_ms)
        else:
            _check_attempts(envelope, envelope.retry.max_attempts if envelope.retry else None)
            due = due_of(delay, at, now_ms)
        request = JobRequest(
            envelope.id,
            repack_attempt(envelope.raw, attempts) if attempts <= MAX_ATTEMPT else envelope.raw,
            name=check_job_name(entry_name if name is None else name, foreign=True),
            delay_ms=due[0],
            due_ms=due[1],
            index=not says_no_index(envelope.raw),
            traceparent=trace[0],
            tracestate=trace[1],
        )
        return await self._again(request)

    def _trace_of(self, job: object, traceparent: str | None, tracestate: str | None) -> tuple[str, str]:
        """Return the given context, or else the current span's, or else that of the entry. Raises JobError."""
        if traceparent != "" or tracestate:
            return check_trace(traceparent, tracestate)
        if self._traces and (trace := current_trace()) != NONE:
            return trace
        fields = job.fields if isinstance(job, StreamEntry) else {}
        try:
            return check_trace(*(to_text(fields.get(field, b"")) for field in ("traceparent", "tracestate")))
        except JobError:  # from another producer
            return NONE

    async def _again(self, request: JobRequest) -> Scheduled:
        # Where the stored member is the job, as on a Redis-protocol store, repeating the request yields the same job.
        if self._management is not None and self._backend.capabilities.ties is not Ties.MEMBER:
            (waiting,) = await self._management.get_jobs(self.name, [request.id])
            if waiting is not None and (waiting.envelope, waiting.name) == (request.envelope, request.name):
                move = Reschedule(job=waiting, delay_ms=request.delay_ms, due_ms=request.due_ms)
                if (await self._management.change_jobs(self.name, [move]))[0] is JobOutcome.MOVED:
                    return Scheduled(request.id, JobOutcome.MOVED)
        return (await self._backend.schedule(self.name, [request]))[0]


def _envelope_of(job: object) -> tuple[Envelope, str]:
    """Return the envelope, and the name if the entry has one. Raises JobError."""
    name = ""
    if isinstance(job, StreamEntry):
        name = to_text(job.fields.get("n", b""))
        if "d" not in job.fields:
            raise JobError(f"entry {job.id} is not a job: it has no field d")
        job = job.fields["d"]
    if isinstance(job, bytes):
        try:
            job = unpack_envelope(job)
        except ValueError as exc:
            raise JobError(f"retry: {exc}") from None
    if not isinstance(job, Envelope):
        raise JobError(f"retry takes an Envelope, an entry of the stream or its field d, not {shown_value(job)}")
    if not job.raw:
        raise JobError("retry needs an Envelope from unpack_envelope: this one was put together")
    if isinstance(job.attempt, bool) or job.attempt < 0:
        raise JobError(f"retry: the envelope's attempt is {job.attempt!r}, not a number of runs")
    return job, name


def _check_attempts(envelope: Envelope, most: int | None) -> None:
    """Raise RetriesExhausted when the job has used up its runs."""
    attempts = envelope.attempt + 1
    if most is not None and attempts >= most:
        raise RetriesExhausted(
            f"job {envelope.id!r} has run {attempts} times, of {max(most, 1)} at most",
            id=envelope.id,
            attempts=attempts,
            max_attempts=max(most, 1),
        )
