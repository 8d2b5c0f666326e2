"""Doubles and conformance contracts for users' own tests. The core does not import this.

clock.py        VirtualClock: time passes only when everything waits
doubles.py      RecordingEvents, RecordingMetrics
faults.py       FaultyBackend: any backend, with injected failures
"""

from promoter_core.testing.clock import VirtualClock
from promoter_core.testing.doubles import RecordingEvents, RecordingMetrics
from promoter_core.testing.faults import Fault, FaultyBackend

__all__ = ["Fault", "FaultyBackend", "RecordingEvents", "RecordingMetrics", "VirtualClock"]
