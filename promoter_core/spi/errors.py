"""Every error that Promoter raises.

    PromoterError
    ├── ConfigError (also ValueError)     a setting, queue name or URL that cannot work
    ├── JobError (also ValueError)        a job that cannot be scheduled (data, name, id, due time) or read
    │   ├── JobExistsError                a job that must be new, and its id is taken
    │   └── RetriesExhausted              a retry of a job that has used up its attempts
    ├── PluginError                       a plugin that is missing, broken, misspelt or in conflict
    └── BackendError                      the store did not do what was asked
        ├── TransientError                may go away by itself: the promoter backs off and tries again
        │   └── BulkInterrupted           the same, in the midst of many changes
        └── PermanentError                will not go away by itself: the promoter releases its lock and stops

Losing a lease is an outcome (`LeaseLost`), not an error. No message ever holds a password.
"""

from __future__ import annotations

from promoter_core.spi.model import JobOutcome, Scheduled


class PromoterError(Exception):
    """The root of the hierarchy: catch this to catch whatever Promoter raises."""


class ConfigError(PromoterError, ValueError):
    """A setting, a queue name or a URL cannot work. Raised before anything is written."""


class JobError(PromoterError, ValueError):
    """A job cannot be scheduled as given, which is raised before anything is written, or its data cannot be read."""


class JobExistsError(JobError):
    """`on_repeat="error"`: a job with this id waits (`outcome` KEPT), or its id is taken (ALREADY_PROMOTED).

    Nothing of that job was changed. `answers` has what became of each job of the call, in order: those whose ids were
    free have been scheduled.
    """

    def __init__(self, message: str, *, id: str, outcome: JobOutcome, answers: tuple[Scheduled, ...]) -> None:
        super().__init__(message)
        self.id = id
        self.outcome = outcome
        self.answers = answers


class RetriesExhausted(JobError):
    """A job has run `attempts` times and may run `max_attempts` times. Nothing was written."""

    def __init__(self, message: str, *, id: str, attempts: int, max_attempts: int) -> None:
        super().__init__(message)
        self.id = id
        self.attempts = attempts
        self.max_attempts = max_attempts


class PluginError(PromoterError):
    """A plugin is missing, broken, misspelt, or in conflict with another."""


class BackendError(PromoterError):
    """The store did not do what was asked.

    `code` is a short stable word for metrics and tests: the server's own error code where there is one
    (`READONLY`, `OOM`, …), otherwise `CONNECTION`, `TIMEOUT`, `CLOSED`, `UNEXPECTED` or the name of the driver's class.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TransientError(BackendError):
    """May go away by itself: a lost connection, a fail-over, a server that is loading or out of memory."""


class PermanentError(BackendError):
    """Will not go away by itself: wrong password, no permission, a key of the wrong type, a broken script."""
