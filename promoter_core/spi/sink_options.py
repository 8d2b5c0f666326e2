"""Parse the options of sinks and layouts, `name:key=value,…`, and report invalid ones."""

from __future__ import annotations

from promoter_core.spi.errors import ConfigError
from promoter_core.spi.spec_checks import nearest

__all__ = ["number", "port", "port_number", "split"]


def split(kind: str, name: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    """Parse `key=value,key=value`. Raises ConfigError for an option that is not in `known`."""
    options: dict[str, str] = {}
    for place, pair in enumerate(filter(None, text.split(",")), 1):
        key, equals, value = pair.partition("=")
        if not equals and key not in known:  # possibly the rest of a secret that contains a comma, so do not show it
            raise ConfigError(
                f"{kind} {name!r}: option {place} is not key=value, and a comma starts the next option; "
                f"options are: {', '.join(known) or 'none'}"
            )
        if not equals or key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near!r}? " if near and near != key else ""
            choices = ", ".join(known) or "none"
            raise ConfigError(f"{kind} {name!r}: no option {key!r} as key=value; {hint}options are: {choices}")
        options[key] = value
    return options


def port_number(text: str, low: int = 1) -> int | None:
    """Return the number of a TCP or UDP port; None when `text` is not one. With `low` 0, that is any free port."""
    short = len(text) <= 5 and text.isascii() and text.isdigit()
    return int(text) if short and low <= int(text) < 65536 else None


def port(sink: str, text: str, low: int = 1) -> int:
    """Return the value of the option `port`, from `low`. Raises ConfigError when it is not a port."""
    number = port_number(text, low)
    if number is None:
        raise ConfigError(f"{sink}: port must be a number from 1 to 65535, not {text!r}")
    return number


def number(sink: str, name: str, text: str, low: float, high: float) -> float:
    """Return the value of a numeric option from `low` to `high`. Raises ConfigError."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(f"{sink}: {name} must be a number from {low:g} to {high:.0f}, not {text!r}")
    return value
