"""Every error that Promoter raises.

    PromoterError
    ├── ConfigError (also ValueError)     an invalid setting, queue name or URL
    ├── JobError (also ValueError)        a job that cannot be scheduled (data, name, id, due time) or read
    │   ├── JobExistsError                a job that must be new, but whose id is taken
    │   └── RetriesExhausted              a retry of a job that has used up its attempts
    ├── PluginError                       a plugin that is missing, broken, misspelt or in conflict
    └── BackendError                      the store failed to carry out a request
        ├── TransientError                may go away by itself: the promoter backs off and retries
        │   └── BulkInterrupted           the same, in the middle of many changes
        └── PermanentError                will not go away by itself: the promoter releases its lock and stops

Losing a lease is an outcome (`LeaseLost`), not an error. No message ever contains a password.
"""

from __future__ import annotations

from promoter_core.spi.model import JobOutcome, Scheduled


class PromoterError(Exception):
    """The root of the hierarchy: catch it to catch every error that Promoter raises."""


class ConfigError(PromoterError, ValueError):
    """A setting, queue name or URL is invalid. Raised before anything is written."""


class JobError(PromoterError, ValueError):
    """A job cannot be scheduled as given (raised before anything is written), or its data cannot be read."""


class JobExistsError(JobError):
    """`on_repeat="error"`: a job with this id is waiting (`outcome` KEPT), or its id is taken (ALREADY_PROMOTED).

    That job was not changed. `answers` has the outcome of each job of the call, in order; those with free ids have been
    scheduled.
    """

    def __init__(self, message: str, *, id: str, outcome: JobOutcome, answers: tuple[Scheduled, ...]) -> None:
        super().__init__(message)
        self.id = id
        self.outcome = outcome
        self.answers = answers


class RetriesExhausted(JobError):
    """A job has run `attempts` times, out of at most `max_attempts`. Nothing was written."""

    def __init__(self, message: str, *, id: str, attempts: int, max_attempts: int) -> None:
        super().__init__(message)
        self.id = id
        self.attempts = attempts
        self.max_attempts = max_attempts


class PluginError(PromoterError):
    """A plugin is missing, broken, misspelt, or in conflict with another."""


class BackendError(PromoterError):
    """The store failed to carry out a request.

    `code` is a short stable word for metrics and tests: the server's own error code if it has one (`READONLY`, `OOM`,
    …), otherwise `CONNECTION`, `TIMEOUT`, `CLOSED`, `PROTOCOL`, `UNEXPECTED` or the name of the driver's exception
    class.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TransientError(BackendError):
    """An error that may go away by itself, such as a lost connection, a fail-over, or a server that is loading."""


class PermanentError(BackendError):
    """An error that will not go away by itself, such as a wrong password, a missing permission or a broken script."""
