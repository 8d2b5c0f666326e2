"""The file of `promoter run --config`: TOML with the command's options by name. `show` prints the values in force."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum

from promoter_core import ConfigError
from promoter_core.cli import session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from promoter_core.cli.arguments import Known

NOT_IN_A_FILE = ("config", "print_config")
HIDDEN = "***"
SECRET = re.compile(r"(?i)(?:secret|password|passwd|token|credential|url|dsn|key)(?!.*_env$)")  # secret names
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


def read(path: str, known: Mapping[str, Known]) -> dict[str, Any]:
    """Read the values of the file's options, by name. Raises ConfigError that names the file and the option."""
    import tomllib
    from pathlib import Path

    try:
        found = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read the configuration file {path!r}: {exc.strerror}") from None
    except ValueError as exc:  # includes UnicodeDecodeError
        raise ConfigError(f"{path}: invalid TOML: {exc}") from None
    names = [name for name in known if name not in NOT_IN_A_FILE]
    values = {}
    for key, value in found.items():
        if key not in names:
            raise ConfigError(f"{path}: unknown option {key!r}; {_nearest(key, names)}")
        try:
            values[key] = _checked(value, known[key])
        except ValueError as expected:
            raise ConfigError(f"{path}: {key} must be {expected}, not {_shown(key, value, known[key])}") from None
    return {key: value for key, value in values.items() if value != []}


def _nearest(key: str, names: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key.replace("-", "_"), names, 1)
    return f"did you mean {near[0]!r}?" if near else f"options are: {', '.join(names)}"


def _checked(value: Any, option: Known) -> Any:
    """Return the value in the form for typer. Raises ValueError with what is expected."""
    if option.many:
        values = value if isinstance(value, list) else [value]
        if all(isinstance(one, str) for one in values):
            return values
        raise ValueError("text, or a list of texts")
    if issubclass(option.kind, Enum):
        choices = [str(member.value) for member in option.kind]
        if value in choices:
            return value
        raise ValueError(" or ".join(map(repr, choices)))
    types, expected = KINDS[option.kind]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ValueError(expected)
    return option.kind(value)


def _shown(key: str, value: Any, option: Known) -> str:
    """Format a value for a message, masked: a URL can contain a password, and so can a sink or a page."""
    return type(value).__name__ if SECRET.search(key) or (option.many and key != "queue") else repr(value)


def show(values: Mapping[str, Any]) -> None:
    """Print the options of a run as TOML for `--config`, with their origins. Secrets are masked."""
    lines = []
    for name, value in values.items():
        if name not in NOT_IN_A_FILE and value is not None:
            lines.append((f"{name} = {_toml(_masked(name, value))}", _source(name, values["config"])))
    width = min(max(len(line) for line, _ in lines), 60)
    for line, source in lines:
        print(f"{line:<{width}}  # {source}")


def _source(name: str, path: str | None) -> str:
    source = session.source_of(name).name if session.source_of is not None else "DEFAULT"
    return {"COMMANDLINE": "command line", "ENVIRONMENT": "environment", "DEFAULT_MAP": path}.get(source) or "default"


def _masked(name: str, value: Any) -> Any:
    if name == "url":
        from promoter_core.spi import parse_url

        url = parse_url(value)
        options = "&".join(f"{key}={HIDDEN if SECRET.search(key) else text}" for key, text in url.options.items())
        return f"{url}?{options}" if options else str(url)
    if isinstance(value, list) and name != "queue":
        return [_sink(text) for text in value]
    return value


def _sink(text: str) -> str:
    name, colon, options = text.partition(":")
    return name + colon + ",".join(map(_option, options.split(",")))


def _option(text: str) -> str:
    """Mask secrets, and anything that is not key=value, which may be a part of one."""
    key, equals, _ = text.partition("=")
    if not key.isidentifier() or not equals:
        return HIDDEN if text else ""
    return f"{key}={HIDDEN}" if SECRET.search(key) else text


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    text = value.value if isinstance(value, Enum) else value
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
