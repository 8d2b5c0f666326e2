"""Options of sinks and layouts come as text, `name:key=value,…`. These read them, and say what cannot work."""

from __future__ import annotations

from promoter_core.spi.errors import ConfigError
from promoter_core.spi.spec_checks import nearest

__all__ = ["number", "port", "port_number", "split"]


def split(kind: str, name: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    """The options in `key=value,key=value`. Raises ConfigError for one that is not among `known`."""
    options: dict[str, str] = {}
    for place, pair in enumerate(filter(None, text.split(",")), 1):
        key, equals, value = pair.partition("=")
        if not equals and key not in known:  # perhaps the end of a secret that has a comma: it is not shown
            raise ConfigError(
                f"{kind} {name!r}: option {place} is no key=value, and a comma begins the next option; "
                f"options are: {', '.join(known) or 'none'}"
            )
        if not equals or key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near!r}? " if near and near != key else ""
            choices = ", ".join(known) or "none"
            raise ConfigError(f"{kind} {name!r}: no option {key!r} as key=value; {hint}options are: {choices}")
        options[key] = value
    return options


def port_number(text: str) -> int | None:
    """The number of a TCP or UDP port; None when `text` is none."""
    short = len(text) <= 5 and text.isascii() and text.isdigit()
    return int(text) if short and 0 < int(text) < 65536 else None


def port(sink: str, text: str) -> int:
    """The option `port`. Raises ConfigError."""
    number = port_number(text)
    if number is None:
        raise ConfigError(f"{sink}: port must be a number from 1 to 65535, not {text!r}")
    return number


def number(sink: str, name: str, text: str, low: float, high: float) -> float:
    """An option that is a number. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"{sink}: {name} must be a number from {low:g} to {high:.0f}, not {text!r}")
    return value
