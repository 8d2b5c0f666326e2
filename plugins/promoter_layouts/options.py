"""Parse the text options of layouts."""

from __future__ import annotations

from promoter_core.spi import ConfigError

TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def flag(layout: str, name: str, text: str) -> bool:
    """Return a true or false option. Raises ConfigError."""
    if (value := TRUTH.get(text.lower())) is None:
        raise ConfigError(f"layout {layout!r}: {name} must be true or false, not {text!r}")
    return value


def lua(text: str) -> str:
    """Quote any text as a Lua string."""
    return "'" + "".join(f"\\{byte:03d}" for byte in text.encode()) + "'"


def prefix(layout: str, text: str, name: str = "prefix") -> str:
    """Return the prefix of a framework's keys. Raises ConfigError."""
    if any(c in text for c in "{}\0\t\r\n "):
        raise ConfigError(
            f"layout {layout!r}: {name} must be the beginning of keys, without braces and spaces, not {text!r}"
        )
    return text
