"""Split jobs to schedule into calls that are short for the server and small on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promoter_core.spi import CHASQUIMQ, KEEP_ID_MS, JobRequest, chunked, pack_trace, to_bytes
from promoter_resp.driver import Arg

CHUNK_JOBS = 100  # jobs scheduled in one script call, so that no call blocks the server for long
CHUNK_BYTES = 256 * 1024


def schedule_chunks(jobs: Sequence[JobRequest]) -> Iterator[tuple[int, list[Arg]]]:
    """Yield how many jobs each call of the schedule script takes, and its arguments for them."""
    encode_member = CHASQUIMQ.encode_member
    for some in chunked(jobs, CHUNK_JOBS, size=_size, max_size=CHUNK_BYTES):
        args: list[Arg] = []
        for job in some:
            due_ms, traced = job.due_ms, job.traceparent
            when = f"+{job.delay_ms or 0}" if due_ms is None else due_ms
            kept = job.unique and job.keep_id_ms != KEEP_ID_MS
            flags = job.unique + 2 * job.index + (4 if traced else 0) + (8 if kept else 0)
            args += (to_bytes(job.id), when, flags, encode_member(job.name, job.envelope))
            if traced:
                args.append(to_bytes(pack_trace(traced, job.tracestate)))
            if kept:
                args.append(job.keep_id_ms)
        yield len(some), args


def _size(job: JobRequest) -> int:
    return len(job.envelope) + len(job.name)
