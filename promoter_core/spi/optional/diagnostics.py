"""`DiagnosticsSupport`: a backend whose server can be examined, for `promoter doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"  # something would lose jobs, or does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a diagnosis, in plain words, and what to do about it."""

    severity: Severity
    summary: str
    advice: str = ""


@runtime_checkable
class DiagnosticsSupport(Protocol):
    """A backend whose server can be examined. Optional: `promoter doctor` asks for it."""

    async def diagnose(self) -> Sequence[Finding]:
        """Look at everything that could lose jobs or not work, and say what to do. Leaves nothing behind."""
        ...
