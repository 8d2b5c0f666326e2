"""What a test knows of a value and its type does not say."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value, which is there: a job that was just scheduled, a match of a text that is known."""
    assert value is not None
    return value


def untyped(value: object) -> Any:
    """The value, for a call that takes another type: it is wrong on purpose, or a stand-in with what the call needs."""
    return value
