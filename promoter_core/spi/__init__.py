"""Service provider interface for authors of backends, sinks, layouts and commands. Import from this package only.

It follows semantic versioning. A `Backend` is a store of delayed jobs. `EventSink` and `MetricsSink` report what
happened. `hookimpl` and the specs register them. Docstrings state obligations: what is atomic, what is bounded, the
order, whose clock counts, and which errors are raised. `promoter_memory.backend.MemoryBackend` implements them in plain
Python; read it when a docstring leaves a question open.

    backend.py     `Backend`, the required contract
    optional/      a file for each optional protocol, with the values that only it uses
    sinks.py       `EventSink`, `MetricsSink`, and their optional protocols
    serializers.py `Serializer`, and the default one
    model.py       the frozen values; errors.py, the exceptions; clock.py, the clocks
    hooks.py       hook specifications, and the specs that plugins yield
    names.py       rules and limits for queue names, job ids and job names
    urls.py        a backend's URL; url_options.py, its options; sink_options.py, a sink's options
    wire.py        the job envelope; layouts.py, keys and member format; in_place.py, sets of other frameworks
    lifecycle.py, calls.py, push.py, batches.py, change_flags.py   helpers for backends
    tasks.py, lateness.py   helpers for backends and sinks
"""

from __future__ import annotations

from promoter_core.spi.lazy import lazy_names

TYPE_CHECKING = False  # true for type checkers; importing `typing` would take longer than this whole module

if TYPE_CHECKING:
    from promoter_core.spi import in_place, sink_options, url_options
    from promoter_core.spi.backend import Backend
    from promoter_core.spi.batches import chunked
    from promoter_core.spi.calls import ErrorTable, run_call
    from promoter_core.spi.change_flags import ChangeFlags
    from promoter_core.spi.clock import Clock, SystemClock, clock_offset_ms, hold
    from promoter_core.spi.errors import (
        BackendError,
        ConfigError,
        JobError,
        PermanentError,
        PluginError,
        PromoterError,
        TransientError,
    )
    from promoter_core.spi.hooks import (
        BackendSpec,
        CommandSpec,
        LayoutSpec,
        PageSpec,
        SerializerSpec,
        SinkSpec,
        hookimpl,
    )
    from promoter_core.spi.lateness import LATENESS_MS, in_buckets, later_than, sample_ms
    from promoter_core.spi.layouts import (
        CHASQUIMQ,
        QUEUE,
        REHEARSAL,
        Layout,
        Part,
        Side,
        ToList,
        ToStream,
        outward,
        part_of,
    )
    from promoter_core.spi.lifecycle import Lifecycle, closed_error
    from promoter_core.spi.model import (
        KEEP_ID_MS,
        MAX_DUE_MS,
        Capabilities,
        ChangeKind,
        ConsumerGroup,
        JobOutcome,
        JobRequest,
        Lease,
        LeaseHeld,
        LeaseLost,
        LockOutcome,
        Overflow,
        Phase,
        PromotedJob,
        Promotion,
        PromotionRequest,
        QueueStats,
        Renewal,
        Scheduled,
        StreamEntry,
        StreamName,
        Tick,
        Ties,
        Wake,
    )
    from promoter_core.spi.names import check_job_id, check_job_name, check_queue_name, is_pattern
    from promoter_core.spi.optional.dead_letters import DeadLetterSupport
    from promoter_core.spi.optional.diagnostics import DiagnosticsSupport, Finding, Severity
    from promoter_core.spi.optional.discovery import DiscoverySupport
    from promoter_core.spi.optional.fleet import ChangeFeed, Changes, FleetBackend, FleetSupport, Members
    from promoter_core.spi.optional.layouts import LayoutSupport
    from promoter_core.spi.optional.management import (
        JobChange,
        JobPage,
        JobQuery,
        ManagementSupport,
        Remove,
        Replace,
        Reschedule,
        RunNow,
        StoredJob,
    )
    from promoter_core.spi.optional.phases import SeparateCleanup, SeparateEmit
    from promoter_core.spi.pages import PageContext
    from promoter_core.spi.push import PushChannel
    from promoter_core.spi.queue_keys import QueueKeys
    from promoter_core.spi.serializers import MsgpackSerializer, Serializer
    from promoter_core.spi.sinks import (
        EventSink,
        ExpositionSupport,
        FailureReportSupport,
        MetricsSink,
        SinkFailure,
        SinkListSupport,
        SinkMonitor,
    )
    from promoter_core.spi.tasks import being_cancelled, cancel_and_wait, close_all, run_within
    from promoter_core.spi.urls import BackendUrl, Credentials, host_port, parse_url
    from promoter_core.spi.wire import (
        Envelope,
        RetryOverrides,
        pack_envelope,
        pack_trace,
        to_bytes,
        to_text,
        unpack_envelope,
        unpack_trace,
    )

__all__ = [
    "CHASQUIMQ",
    "KEEP_ID_MS",
    "LATENESS_MS",
    "MAX_DUE_MS",
    "QUEUE",
    "REHEARSAL",
    "Backend",
    "BackendError",
    "BackendSpec",
    "BackendUrl",
    "Capabilities",
    "ChangeFeed",
    "ChangeFlags",
    "ChangeKind",
    "Changes",
    "Clock",
    "CommandSpec",
    "ConfigError",
    "ConsumerGroup",
    "Credentials",
    "DeadLetterSupport",
    "DiagnosticsSupport",
    "DiscoverySupport",
    "Envelope",
    "ErrorTable",
    "EventSink",
    "ExpositionSupport",
    "FailureReportSupport",
    "Finding",
    "FleetBackend",
    "FleetSupport",
    "JobChange",
    "JobError",
    "JobOutcome",
    "JobPage",
    "JobQuery",
    "JobRequest",
    "Layout",
    "LayoutSpec",
    "LayoutSupport",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Lifecycle",
    "LockOutcome",
    "ManagementSupport",
    "Members",
    "MetricsSink",
    "MsgpackSerializer",
    "Overflow",
    "PageContext",
    "PageSpec",
    "Part",
    "PermanentError",
    "Phase",
    "PluginError",
    "PromotedJob",
    "PromoterError",
    "Promotion",
    "PromotionRequest",
    "PushChannel",
    "QueueKeys",
    "QueueStats",
    "Remove",
    "Renewal",
    "Replace",
    "Reschedule",
    "RetryOverrides",
    "RunNow",
    "Scheduled",
    "SeparateCleanup",
    "SeparateEmit",
    "Serializer",
    "SerializerSpec",
    "Severity",
    "Side",
    "SinkFailure",
    "SinkListSupport",
    "SinkMonitor",
    "SinkSpec",
    "StoredJob",
    "StreamEntry",
    "StreamName",
    "SystemClock",
    "Tick",
    "Ties",
    "ToList",
    "ToStream",
    "TransientError",
    "Wake",
    "being_cancelled",
    "cancel_and_wait",
    "check_job_id",
    "check_job_name",
    "check_queue_name",
    "chunked",
    "clock_offset_ms",
    "close_all",
    "closed_error",
    "hold",
    "hookimpl",
    "host_port",
    "in_buckets",
    "in_place",
    "is_pattern",
    "later_than",
    "outward",
    "pack_envelope",
    "pack_trace",
    "parse_url",
    "part_of",
    "run_call",
    "run_within",
    "sample_ms",
    "sink_options",
    "to_bytes",
    "to_text",
    "unpack_envelope",
    "unpack_trace",
    "url_options",
]

_HOMES = {  # the same imports, made on first use
    "in_place": ("in_place",),
    "sink_options": ("sink_options",),
    "url_options": ("url_options",),
    "backend": ("Backend",),
    "batches": ("chunked",),
    "calls": ("ErrorTable", "run_call"),
    "lifecycle": ("Lifecycle", "closed_error"),
    "pages": ("PageContext",),
    "push": ("PushChannel",),
    "change_flags": ("ChangeFlags",),
    "clock": ("Clock", "SystemClock", "clock_offset_ms", "hold"),
    "errors": (
        "BackendError",
        "ConfigError",
        "JobError",
        "PermanentError",
        "PluginError",
        "PromoterError",
        "TransientError",
    ),
    "hooks": ("BackendSpec", "CommandSpec", "LayoutSpec", "PageSpec", "SerializerSpec", "SinkSpec", "hookimpl"),
    "lateness": ("LATENESS_MS", "in_buckets", "later_than", "sample_ms"),
    "layouts": (
        "CHASQUIMQ",
        "QUEUE",
        "REHEARSAL",
        "Layout",
        "Part",
        "Side",
        "ToList",
        "ToStream",
        "outward",
        "part_of",
    ),
    "model": (
        "KEEP_ID_MS",
        "MAX_DUE_MS",
        "Capabilities",
        "ChangeKind",
        "ConsumerGroup",
        "JobOutcome",
        "JobRequest",
        "Lease",
        "LeaseHeld",
        "LeaseLost",
        "LockOutcome",
        "Overflow",
        "Phase",
        "PromotedJob",
        "Promotion",
        "PromotionRequest",
        "QueueStats",
        "Renewal",
        "Scheduled",
        "StreamEntry",
        "StreamName",
        "Tick",
        "Ties",
        "Wake",
    ),
    "names": ("check_job_id", "check_job_name", "check_queue_name", "is_pattern"),
    "optional.dead_letters": ("DeadLetterSupport",),
    "optional.diagnostics": (
        "DiagnosticsSupport",
        "Finding",
        "Severity",
    ),
    "optional.discovery": ("DiscoverySupport",),
    "optional.fleet": (
        "ChangeFeed",
        "Changes",
        "FleetBackend",
        "FleetSupport",
        "Members",
    ),
    "optional.layouts": ("LayoutSupport",),
    "optional.management": (
        "JobChange",
        "JobPage",
        "JobQuery",
        "ManagementSupport",
        "Remove",
        "Replace",
        "Reschedule",
        "RunNow",
        "StoredJob",
    ),
    "optional.phases": (
        "SeparateCleanup",
        "SeparateEmit",
    ),
    "queue_keys": ("QueueKeys",),
    "serializers": ("MsgpackSerializer", "Serializer"),
    "sinks": (
        "EventSink",
        "ExpositionSupport",
        "FailureReportSupport",
        "MetricsSink",
        "SinkFailure",
        "SinkListSupport",
        "SinkMonitor",
    ),
    "tasks": ("being_cancelled", "cancel_and_wait", "close_all", "run_within"),
    "urls": ("BackendUrl", "Credentials", "host_port", "parse_url"),
    "wire": (
        "Envelope",
        "RetryOverrides",
        "pack_envelope",
        "pack_trace",
        "to_bytes",
        "to_text",
        "unpack_envelope",
        "unpack_trace",
    ),
}

if not TYPE_CHECKING:  # type checkers see only the imports above
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
