"""Converters for `BackendUrl.take`, one for each kind of option. Each raises ValueError with what it expects."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["boolean", "choice", "duration_ms", "whole"]

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def whole(low: int = 0, high: int | None = None) -> Callable[[str], int]:
    """Convert a whole number from `low` to `high`, inclusive.

    options = url.take(pool_size=url_options.whole(1, 100))
    """

    def convert(text: str) -> int:
        if _WHOLE.fullmatch(text) and low <= int(text) and (high is None or int(text) <= high):
            return int(text)
        raise ValueError(f"a whole number from {low}" + (f" to {high}" if high is not None else ""))

    return convert


def choice(*words: str) -> Callable[[str], str]:
    """Accept one of `words`, exactly.

    options = url.take(sync=url_options.choice("full", "normal"))
    """

    def convert(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"one of {', '.join(words)}")

    return convert


def boolean(text: str) -> bool:
    """Convert `1`, `true`, `yes` and `on` to True; `0`, `false`, `no` and `off` to False.

    options = url.take(tls=url_options.boolean)
    """
    if (value := _WORDS.get(text.lower())) is None:
        raise ValueError("1 or 0")
    return value


def duration_ms(low_ms: float = 0, high_ms: float = float("inf")) -> Callable[[str], float]:
    """Convert a duration with units (`500ms`, `5s`, `1h30m`, `2d`) to milliseconds, from `low_ms` to `high_ms`.

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
