"""`DiagnosticsSupport`: a backend whose server can be examined, for `promoter doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Severity(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"  # something can lose jobs, or does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a diagnosis, in plain words, with advice."""

    severity: Severity
    summary: str
    advice: str = ""


@runtime_checkable
class DiagnosticsSupport(Protocol):
    """A backend whose server can be examined. Optional: `promoter doctor` needs it."""

    async def diagnose(self) -> Sequence[Finding]:
        """Check everything that could lose jobs or not work, and give advice. Leaves nothing behind."""
        ...
