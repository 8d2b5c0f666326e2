"""Rules and limits for queue names, patterns, job ids and job names."""

from __future__ import annotations

from promoter_core.spi.errors import ConfigError, JobError

MAX_QUEUE_BYTES = 200
MAX_NAME_BYTES = 256
MAX_ID_BYTES = 512
WILDCARDS = "*?["


def is_pattern(name: str) -> bool:
    """Return whether `name` is a glob pattern over queue names rather than the name of one queue."""
    return any(c in name for c in WILDCARDS)


def check_queue_name(queue: object) -> str:
    """Return `queue` if it is a valid queue name.

    Raises ConfigError when it is not text, is empty, has over 200 bytes of UTF-8, or contains `{`, `}` or a control
    character. Braces would change the hash tag that keeps a queue's keys in one cluster slot.
    """
    if not isinstance(queue, str):
        raise ConfigError(f"queue name must be text, not {type(queue).__name__}")
    if not queue:
        raise ConfigError("queue name is empty: give the name of a queue, such as 'emails'")
    bad = next((c for c in queue if c in "{}" or ord(c) < 32 or 127 <= ord(c) < 160), None)
    if bad is not None:
        raise ConfigError(f"queue name {queue!r} holds {bad!r}: braces and control characters are not allowed")
    try:
        size = len(queue.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"queue name {queue!r} is not valid Unicode text") from None
    if size > MAX_QUEUE_BYTES:
        raise ConfigError(f"queue name is {size} bytes long, at most {MAX_QUEUE_BYTES} are allowed")
    return queue


def check_job_name(name: object, *, foreign: bool = False) -> str:
    """Return `name` if it is a valid job name: text of at most 256 bytes of UTF-8, possibly empty. Raises JobError.

    `foreign`: allow a name from another producer, in which surrogate escapes stand for bytes that are not UTF-8.
    """
    if not isinstance(name, str):
        raise JobError(f"name must be text, not {type(name).__name__}")
    size = len(_encoded(name, "name", "surrogateescape" if foreign else "strict"))
    if size > MAX_NAME_BYTES:
        raise JobError(f"name is {size} bytes long, at most {MAX_NAME_BYTES} are allowed")
    return name


def check_job_id(job_id: object, *, foreign: bool = False) -> str:
    """Return `job_id` if it is a valid id: text of 1 to 512 bytes, not only white space. Raises JobError.

    `foreign`: allow an id from another producer, in which surrogate escapes stand for bytes that are not UTF-8.
    """
    if not isinstance(job_id, str):
        raise JobError(f"job id must be text, not {type(job_id).__name__}")
    size = len(_encoded(job_id, "job id", "surrogateescape" if foreign else "strict"))
    if not 0 < size <= MAX_ID_BYTES or not job_id.strip():
        raise JobError(f"job id must be text of 1 to {MAX_ID_BYTES} bytes and more than white space, not {size} bytes")
    return job_id


def _encoded(text: str, what: str, errors: str = "strict") -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError:
        raise JobError(f"{what} {text!r} is not valid Unicode text: consumers could not read it as UTF-8") from None
