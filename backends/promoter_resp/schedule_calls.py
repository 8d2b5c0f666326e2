"""Jobs to schedule, cut into calls that are short for the server and small on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promoter_core.spi import CHASQUIMQ, JobRequest, to_bytes
from promoter_resp.driver import Arg

CHUNK_JOBS = 100  # scheduled or cancelled by one call of a script, so that none of them holds the server for long
CHUNK_BYTES = 256 * 1024


def schedule_chunks(jobs: Sequence[JobRequest]) -> Iterator[tuple[int, list[Arg]]]:
    """How many jobs each call of the schedule script takes, and its arguments for them."""
    args: list[Arg] = []
    size = count = 0
    for job in jobs:
        when = f"+{job.delay_ms or 0}" if job.due_ms is None else str(job.due_ms)
        member = CHASQUIMQ.encode_member(job.name, job.envelope)
        flags = int(job.unique) + 2 * int(job.index) + 4 * bool(job.traceparent)
        args += (to_bytes(job.id), when, flags, member)
        if job.traceparent:
            args.append(job.traceparent)
        count += 1
        size += len(member)
        if count >= CHUNK_JOBS or size >= CHUNK_BYTES:
            yield count, args
            args, size, count = [], 0, 0
    if args:
        yield count, args
