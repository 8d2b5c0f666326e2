"""Promoter moves due delayed jobs from a sorted set to a stream, under a leader lock.

This module is the public API for applications. `promoter_core.sync` is its form for blocking code, `promoter_core.spi`
the interface for backends, sinks and commands, and `promoter_core.monitor` reads the state of queues. Everything else
is private, except `promoter_core.testing` and `promoter_core.web.serving`. The tree, from the bottom up:

    spi/          service provider interface: contracts, values, errors, hooks
    settings.py   `PromoterSettings`
    engine/       the state machine, without I/O; start reading in engine/machine.py
    registry.py   loads plugins; `connect`
    runner/       performs what the engine decides: `Promoter`, and runner/fleet/ for many queues
    client/       `DelayedQueue`: schedule, see, change and cancel jobs; `list_queues`
    sync/         the same for blocking code: `connect`, `DelayedQueue`, `list_queues`
    monitor/      the state of queues, read from the store: `snapshot`, and a sampler with a page for Prometheus
    web/          /metrics, /livez, /readyz and /status
    cli/          the `promoter` command, a file for each command
    testing/      for tests: doubles, a virtual clock, the conformance kit

Backends are in `backends/`, sinks and other commands in `plugins/`. They are found through entry points, like
third-party plugins. docs/explanation/architecture.md says where to add a new one.
"""

from __future__ import annotations

from promoter_core.spi.lazy import lazy_names

TYPE_CHECKING = False  # true for type checkers; importing `typing` would take longer than this whole module

if TYPE_CHECKING:
    from promoter_core.client.backoff import Backoff
    from promoter_core.client.queue import DelayedQueue
    from promoter_core.client.queues import list_queues
    from promoter_core.client.requests import Job
    from promoter_core.client.transfer import ExportedPage, Transferred, copy_jobs, export_jobs, import_jobs
    from promoter_core.client.transfer_lines import TransferError
    from promoter_core.client.values import BulkInterrupted, BulkResult, DelayedJob, Page, QueueInfo
    from promoter_core.registry import BrokenPlugin, Registered, Registry, connect
    from promoter_core.runner.base import Runner
    from promoter_core.runner.fleet import PromoterFleet
    from promoter_core.runner.health import Health
    from promoter_core.runner.promoter import Promoter
    from promoter_core.settings import PromoterSettings
    from promoter_core.spi.backend import Backend
    from promoter_core.spi.errors import (
        BackendError,
        ConfigError,
        JobError,
        JobExistsError,
        PermanentError,
        PluginError,
        PromoterError,
        RetriesExhausted,
        TransientError,
    )
    from promoter_core.spi.model import JobOutcome, Overflow, QueueStats, Scheduled
    from promoter_core.spi.serializers import Serializer
    from promoter_core.spi.urls import Credentials
    from promoter_core.spi.wire import Envelope, RetryOverrides, unpack_envelope

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendError",
    "Backoff",
    "BrokenPlugin",
    "BulkInterrupted",
    "BulkResult",
    "ConfigError",
    "Credentials",
    "DelayedJob",
    "DelayedQueue",
    "Envelope",
    "ExportedPage",
    "Health",
    "Job",
    "JobError",
    "JobExistsError",
    "JobOutcome",
    "Overflow",
    "Page",
    "PermanentError",
    "PluginError",
    "Promoter",
    "PromoterError",
    "PromoterFleet",
    "PromoterSettings",
    "QueueInfo",
    "QueueStats",
    "Registered",
    "Registry",
    "RetriesExhausted",
    "RetryOverrides",
    "Runner",
    "Scheduled",
    "Serializer",
    "TransferError",
    "Transferred",
    "TransientError",
    "connect",
    "copy_jobs",
    "export_jobs",
    "import_jobs",
    "list_queues",
    "unpack_envelope",
]

_HOMES = {  # the same imports, made on first use
    "client.backoff": ("Backoff",),
    "client.queue": ("DelayedQueue",),
    "client.queues": ("list_queues",),
    "client.requests": ("Job",),
    "client.transfer": (
        "ExportedPage",
        "Transferred",
        "copy_jobs",
        "export_jobs",
        "import_jobs",
    ),
    "client.transfer_lines": ("TransferError",),
    "client.values": (
        "BulkInterrupted",
        "BulkResult",
        "DelayedJob",
        "Page",
        "QueueInfo",
    ),
    "registry": (
        "BrokenPlugin",
        "Registered",
        "Registry",
        "connect",
    ),
    "runner.base": ("Runner",),
    "runner.fleet": ("PromoterFleet",),
    "runner.health": ("Health",),
    "runner.promoter": ("Promoter",),
    "settings": ("PromoterSettings",),
    "spi.backend": ("Backend",),
    "spi.errors": (
        "BackendError",
        "ConfigError",
        "JobError",
        "JobExistsError",
        "PermanentError",
        "PluginError",
        "PromoterError",
        "RetriesExhausted",
        "TransientError",
    ),
    "spi.model": (
        "JobOutcome",
        "Overflow",
        "QueueStats",
        "Scheduled",
    ),
    "spi.serializers": ("Serializer",),
    "spi.urls": ("Credentials",),
    "spi.wire": (
        "Envelope",
        "RetryOverrides",
        "unpack_envelope",
    ),
}

if not TYPE_CHECKING:  # type checkers see only the imports above
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
