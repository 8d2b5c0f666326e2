"""Jobs to schedule, cut into calls that are short for the server and small on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promoter_core.spi import CHASQUIMQ, JobRequest, chunked, to_bytes
from promoter_resp.driver import Arg

CHUNK_JOBS = 100  # scheduled or cancelled by one call of a script, so that none of them holds the server for long
CHUNK_BYTES = 256 * 1024


def schedule_chunks(jobs: Sequence[JobRequest]) -> Iterator[tuple[int, list[Arg]]]:
    """How many jobs each call of the schedule script takes, and its arguments for them."""
    for some in chunked(jobs, CHUNK_JOBS, size=_size, max_size=CHUNK_BYTES):
        args: list[Arg] = []
        for job in some:
            when = f"+{job.delay_ms or 0}" if job.due_ms is None else str(job.due_ms)
            member = CHASQUIMQ.encode_member(job.name, job.envelope)
            flags = int(job.unique) + 2 * int(job.index) + 4 * bool(job.traceparent)
            args += (to_bytes(job.id), when, flags, member)
            if job.traceparent:
                args.append(job.traceparent)
        yield len(some), args


def _size(job: JobRequest) -> int:
    return len(job.envelope) + len(job.name)
