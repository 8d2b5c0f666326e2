"""Promoter moves delayed jobs that have become due from a sorted set to a stream, under a leader lock.

The map of the tree:

    machine.py, actions.py   READ FIRST: the state machine lock → promote → cleanup → emit, without any I/O
    pacing.py, batch.py      when it acts again, and how many jobs a tick asks for
    contracts/               the Protocols that backends, sinks and clocks fulfil
    promoter.py, doing.py    run one machine against one backend; ending.py: how a run ends in bounded time
    fleet/                   many queues in one process: many machines, one loop
    reports.py, sinks.py     what machines report, to the log, metrics and event sinks
    queue.py, envelope.py    DelayedQueue: schedule and cancel; the job's wire envelope
    model.py, lateness.py    the frozen values that cross a contract; lateness, counted by bounds
    settings.py, options.py, errors.py   what can be set (a sink's options too), what can go wrong
    hookspecs.py, registry.py, urls.py   plugins: the hooks, loading them, opening a backend by URL
    cli/                     the `promoter` command, one file a command
    testing/                 shipped: the conformance kit, doubles, a virtual clock; nothing here imports it

Drivers live outside of it: `backends/` has the packages `promoter_memory`, `promoter_resp`, `promoter_redis`
and `promoter_glide`, `plugins/` has sinks and commands. They are found through entry points, as anybody's are.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib import metadata

from promoter_core.contracts import Backend, Clock, EventSink, MetricsSink
from promoter_core.envelope import Envelope, unpack_envelope
from promoter_core.errors import (
    BackendError,
    ConfigError,
    JobError,
    PermanentError,
    PluginError,
    PromoterError,
    TransientError,
)
from promoter_core.fleet import PromoterFleet
from promoter_core.hookspecs import BackendSpec, CommandSpec, SinkSpec, hookimpl
from promoter_core.model import CancelOutcome, Health, PromotedJob, Promotion, QueueStats, Scheduled
from promoter_core.promoter import Promoter
from promoter_core.queue import DelayedQueue, Job
from promoter_core.registry import Registry
from promoter_core.settings import PromoterSettings
from promoter_core.urls import Credentials

__version__ = metadata.version("promoter-core")


def connect(
    url: str, *, credentials: Credentials | None = None, registry: Registry | None = None
) -> AbstractAsyncContextManager[Backend]:
    """`async with connect("redis://localhost:6379") as backend:` opens the backend that the URL names.

    `credentials` is an async callable that gives `(user or None, password)`; it is asked whenever a connection is made,
    for passwords that rotate.

    Raises ConfigError for a URL that cannot work, PluginError when no installed plugin can open it, TransientError
    when the store cannot be reached, PermanentError when it refuses us.
    """
    return (registry or Registry()).connect(url, credentials=credentials)


__all__ = [
    "Backend",
    "BackendError",
    "BackendSpec",
    "CancelOutcome",
    "Clock",
    "CommandSpec",
    "ConfigError",
    "Credentials",
    "DelayedQueue",
    "Envelope",
    "EventSink",
    "Health",
    "Job",
    "JobError",
    "MetricsSink",
    "PermanentError",
    "PluginError",
    "PromotedJob",
    "Promoter",
    "PromoterError",
    "PromoterFleet",
    "PromoterSettings",
    "Promotion",
    "QueueStats",
    "Registry",
    "Scheduled",
    "SinkSpec",
    "TransientError",
    "connect",
    "hookimpl",
    "unpack_envelope",
]
