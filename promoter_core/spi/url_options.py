"""The kinds of a URL's options: converters for `BackendUrl.take`. Each raises ValueError that says what is expected."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["boolean", "choice", "duration_ms", "whole"]

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def whole(low: int = 0, high: int | None = None) -> Callable[[str], int]:
    """A whole number.

    Both ends of its range are included.

        options = url.take(pool_size=url_options.whole(1, 100))
    """

    def convert(text: str) -> int:
        if _WHOLE.fullmatch(text) and low <= int(text) and (high is None or int(text) <= high):
            return int(text)
        raise ValueError(f"a whole number from {low}" + (f" to {high}" if high is not None else ""))

    return convert


def choice(*words: str) -> Callable[[str], str]:
    """One of the words.

    They are compared exactly.

        options = url.take(sync=url_options.choice("full", "normal"))
    """

    def convert(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"one of {', '.join(words)}")

    return convert


def boolean(text: str) -> bool:
    """True or False.

    `1`, `true`, `yes` and `on` are True; `0`, `false`, `no` and `off` are False.

        options = url.take(tls=url_options.boolean)
    """
    if (value := _WORDS.get(text.lower())) is None:
        raise ValueError("1 or 0")
    return value


def duration_ms(low_ms: float = 0, high_ms: float = float("inf")) -> Callable[[str], float]:
    """A time in milliseconds.

    It is given with its unit: `500ms`, `5s`, `1h30m` or `2d`.

        options = url.take(busy_timeout=url_options.duration_ms(1, 60_000))
    """

    def convert(text: str) -> float:
        parts = _PART.findall(text)
        value = sum(float(number) * _UNITS_MS[unit] for number, unit in parts)
        if parts and not _PART.sub("", text) and low_ms <= value <= high_ms:
            return value
        limits = f" from {low_ms:g}ms" + (f" to {high_ms:g}ms" if high_ms != float("inf") else "")
        raise ValueError(f"a time such as 500ms, 5s or 1h30m{limits}")

    return convert
