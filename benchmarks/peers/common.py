"""Shared by the peers: which jobs, when they are due, and their fate.

Standard library only, as each peer runs in a separate environment.

    python with_arq.py URL OUT JOBS LEAD_S SPREAD_S

schedules JOBS no-op jobs that become due LEAD_S seconds from now and over SPREAD_S seconds, works on them with the
peer's own worker, and writes to OUT how late each was started and when the last one was.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path


class Run:
    """The jobs of this run, by number."""

    def __init__(self, package: str) -> None:
        self.url, out, jobs, lead, spread = sys.argv[1:6]
        self.jobs = int(jobs)
        self.version = metadata.version(package)
        self._out = Path(out)
        self._start = time.time() + float(lead)
        self._spread = float(spread)
        self._late_ms: dict[int, float] = {}
        self._last = 0.0

    def due(self, i: int) -> float:
        """Unix time at which job `i` is due; those of a spread are not due in the order in which they are scheduled."""
        return self._start + self._spread * (i * 7919 % self.jobs) / self.jobs

    def delay(self, i: int) -> float:
        """Seconds from now until job `i` is due."""
        return max(self.due(i) - time.time(), 0.001)

    def scheduled(self) -> None:
        """All jobs have been handed over. Says so when that took longer than the lead: then figures mean nothing."""
        if time.time() > self._start:
            self._write(error=f"scheduling {self.jobs} jobs took longer than the time before they were due")

    def started(self, i: int) -> None:
        """Job `i` is being worked on. After the last one the process ends."""
        now = time.time()
        self._late_ms.setdefault(i, (now - self.due(i)) * 1000)
        self._last = now
        if len(self._late_ms) == self.jobs:
            self._write(late_ms=sorted(self._late_ms.values()), took_s=self._last - self._start)

    def failed(self, error: str) -> None:
        """It cannot be measured here. The process ends."""
        self._write(error=error)

    def _write(self, **results: object) -> None:
        self._out.write_text(json.dumps({"version": self.version} | results))
        os._exit(0)


def host_port(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("redis://").partition(":")
    return host, int(port)
