"""The Protocols between the core and everything that plugs into it.

A `Backend` is a store of delayed jobs; an `EventSink` and a `MetricsSink` are told what happened; a `Clock` tells
the time. Each docstring states obligations: what is atomic, what is bounded, in which order, by whose clock, and
which errors. `promoter_memory.backend.MemoryBackend` fulfils them in plain Python and is the place to look when a
sentence here leaves a doubt.
"""

from promoter_core.contracts.backend import Backend, check_backend
from promoter_core.contracts.optional import ChangeFeed, Diagnosable, ManyQueues, Quarantine
from promoter_core.contracts.sinks import Clock, EventSink, Exposable, MetricsSink, SinkMonitor, TroubleReports

__all__ = [
    "Backend",
    "ChangeFeed",
    "Clock",
    "Diagnosable",
    "EventSink",
    "Exposable",
    "ManyQueues",
    "MetricsSink",
    "Quarantine",
    "SinkMonitor",
    "TroubleReports",
    "check_backend",
]
