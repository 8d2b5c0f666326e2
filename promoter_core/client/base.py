"""The base of `DelayedQueue`: its backend, and checks of arguments that all methods share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from promoter_core.client.requests import RequestMaker, shown_value
from promoter_core.client.traces import NONE, current_trace
from promoter_core.client.values import DelayedJob, JobRef
from promoter_core.registry import Registry
from promoter_core.spi.backend import Backend, check_backend
from promoter_core.spi.clock import Clock, SystemClock
from promoter_core.spi.errors import ConfigError, JobError
from promoter_core.spi.layouts import Layout
from promoter_core.spi.model import MAX_DUE_MS, Scheduled
from promoter_core.spi.names import check_job_id, check_job_name, check_queue_name
from promoter_core.spi.optional.layouts import LayoutSupport
from promoter_core.spi.optional.management import ManagementSupport, StoredJob
from promoter_core.spi.serializers import MSGPACK, Serializer, find_serializer

STEP = 500  # jobs per call to the backend


class QueueBase:
    """The common part of `DelayedQueue`'s base classes."""

    def __init__(
        self,
        backend: Backend,
        queue: str,
        *,
        index: bool = True,
        serializer: str | Serializer | None = None,
        traces: bool = True,
        clock: Clock | None = None,
        registry: Registry | None = None,
    ) -> None:
        """`index` is the default for jobs that do not set it.

        `serializer` packs their data: the name of an installed serializer or of one in `registry`, or an object.
        Consumers read with the same one. The default is that of the backend's layout: msgpack, or the format that
        another framework's consumers need. `traces`: if the program uses OpenTelemetry, a job receives the trace
        context of the span in which it is scheduled. `clock` stamps `created_at_ms`; due times follow the store's
        clock.

        Raises ConfigError; PluginError for an unavailable serializer.
        """
        if not isinstance(index, bool):
            raise ConfigError(f"index must be True or False, not {index!r}")
        if not isinstance(traces, bool):
            raise ConfigError(f"traces must be True or False, not {traces!r}")
        self.name = check_queue_name(queue)
        self._backend = check_backend(backend)
        self._management = backend if isinstance(backend, ManagementSupport) else None
        self._index = index
        self._traces = traces
        if serializer is None:
            serializer = backend.layout.serializer if isinstance(backend, LayoutSupport) else MSGPACK
        self._serializer = find_serializer(serializer, registry)
        self._clock = clock or SystemClock()

    @property
    def layout(self) -> Layout | None:
        """Where due jobs go, and how they are stored. None for a backend without layouts."""
        return self._backend.layout if isinstance(self._backend, LayoutSupport) else None

    def _maker(self, *, foreign: bool = False) -> RequestMaker:
        return RequestMaker(
            self._clock.time_ms(),
            index=self._index,
            foreign=foreign,
            serializer=self._serializer,
            trace=current_trace() if self._traces else NONE,
        )

    def _seen(self, job: StoredJob) -> DelayedJob:
        return DelayedJob(job, self.name, self._serializer)

    def _managed(self, method: str) -> ManagementSupport:
        if self._management is None:
            raise ConfigError(
                f"{method} needs a backend that can list and change waiting jobs (ManagementSupport), but "
                f"{type(self._backend).__name__} cannot"
            )
        return self._management

    def _id_of(self, job: JobRef, method: str) -> str:
        """Raises JobError."""
        if isinstance(job, DelayedJob):
            self._check_ours(job, method)
            if job.id is None:
                raise JobError(f"{method}: {job!r} has no readable id")
            return job.id
        # Other producers' ids may not be UTF-8. Events show those with surrogate escapes, so accept that form.
        return check_job_id(job.id if isinstance(job, Scheduled) else job, foreign=True)

    def _target(self, job: JobRef, method: str) -> str | StoredJob:
        """Raises JobError."""
        if not isinstance(job, DelayedJob):
            return self._id_of(job, method)
        self._check_ours(job, method)
        return job.stored

    def _check_ours(self, job: DelayedJob, method: str) -> None:
        if job.queue != self.name:
            raise JobError(f"{method}: {job!r} is no job of {self.name!r}")

    def _targets(self, jobs: Iterable[JobRef], method: str) -> list[str | StoredJob]:
        """Raises JobError before anything is written."""
        return [self._target(job, method) for job in jobs]


def several(jobs: object, method: str, what: str) -> list[Any]:
    """Return the items of an argument that must be an iterable of several. Raises JobError for a single value."""
    if isinstance(jobs, str | bytes | Scheduled | DelayedJob | Mapping) or not isinstance(jobs, Iterable):
        raise JobError(
            f"{method} takes a list of {what}, not {shown_value(jobs)}; {method.removesuffix('_many')} takes one"
        )
    return list(jobs)


def bounds_of(due_from: datetime | None, due_to: datetime | None) -> tuple[int | None, int | None]:
    """Return a half-open range of due times in milliseconds. Raises JobError."""
    from_ms = None if due_from is None else instant_ms(due_from, "due_from")
    to_ms = None if due_to is None else instant_ms(due_to, "due_to")
    if due_from is not None and due_to is not None and due_from > due_to:
        raise JobError(f"due_from={due_from.isoformat()} is after due_to={due_to.isoformat()}")
    return from_ms, to_ms


def instant_ms(at: object, what: str) -> int:
    """Return the first millisecond that is not before `at`; a time before 1970 counts as 1970. Raises JobError."""
    if not isinstance(at, datetime):
        raise JobError(f"{what} must be a datetime with a time zone, not {type(at).__name__}")
    if at.utcoffset() is None:
        raise JobError(f"{what}={at.isoformat()} has no time zone: use an aware datetime, such as datetime.now(UTC)")
    return min(max(math.ceil(at.timestamp() * 1000 - 1e-3), 0), MAX_DUE_MS + 1)


def check_name(name: str | None) -> str | None:
    """Return `name` if it can select jobs. Raises JobError."""
    return None if name is None else check_job_name(name, foreign=True)


def check_number(value: object, what: str, low: int, high: int) -> int:
    """Return `value` if it is a whole number in the range. Raises JobError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise JobError(f"{what} must be a whole number, not {shown_value(value)}")
    if not low <= value <= high:
        raise JobError(f"{what} is {value}: it must be from {low:,} to {high:,}")
    return value


def check_flag(value: object, what: str) -> bool:
    """Return `value` if it is True or False. Raises JobError."""
    if not isinstance(value, bool):
        raise JobError(f"{what} must be True or False, not {shown_value(value)}")
    return value
