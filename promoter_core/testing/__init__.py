"""Doubles and conformance contracts, shipped for users' own tests. Nothing of the core imports this.

clock.py        VirtualClock: time passes only when everything waits
doubles.py      RecordingEvents, RecordingMetrics
faults.py       FaultyBackend: any backend, with failures where you want them
"""

from promoter_core.testing.clock import VirtualClock
from promoter_core.testing.doubles import RecordingEvents, RecordingMetrics
from promoter_core.testing.faults import Fault, FaultyBackend

__all__ = ["Fault", "FaultyBackend", "RecordingEvents", "RecordingMetrics", "VirtualClock"]
