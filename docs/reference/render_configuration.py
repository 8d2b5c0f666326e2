"""Write docs/reference/configuration.md from the options of `promoter run`.

python docs/reference/render_configuration.py           # write
python docs/reference/render_configuration.py --check   # fail if the page is stale
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from enum import Enum
from pathlib import Path
from typing import Any

from promoter_core import PromoterSettings
from promoter_core.cli.arguments import Known, options_of
from promoter_core.cli.config_file import NOT_IN_A_FILE
from promoter_core.cli.run import run

PAGE = Path(__file__).parent / "configuration.md"
FIELDS = {"batch": "promote_batch"}  # options that have another name in `PromoterSettings`
INTRODUCTION = """# Configuration of `promoter run`

Each option can be given in three places. The command line takes precedence over the environment, and the environment
over the file named by `--config` or `PROMOTER_CONFIG`. An option given in none of them has its default. Lists are not
merged: the place with the highest precedence provides the whole list. [Configure a
promoter](../how-to/deploy/configure.md) shows how to use them.

| in the file | option | variable | value | default | meaning |
|---|---|---|---|---|---|
"""
NOTES = """
The file is TOML with top-level keys. A list with one item can be written as text: `queue = "emails"`. In a variable,
blanks separate the items of a list; an item that contains a blank needs the file or the command line. A switch
accepts `1`, `true`, `yes`, `0`, `false` or `no` in a variable. An empty variable counts as unset.

`--config FILE` (`PROMOTER_CONFIG`) names the file. `--print-config` prints all values as TOML, with their origins and
with secrets masked, and exits. An unreadable file, an unknown key, or a value of the wrong type ends the command with
code 2 and a one-line message.

`PROMOTER_DEBUG=1` is the same as `promoter --debug …`. [Settings](settings.md) describes what the settings do, and
[the command line](command-line.md#promoter-run) the sinks and their options.

*This page is generated from the options of the command.*
"""


def render() -> str:
    parameters = inspect.signature(run).parameters
    rows = [row(name, option, parameters[name].default) for name, option in options_of(run).items()]
    return INTRODUCTION + "".join(rows) + NOTES


def row(name: str, option: Known, default: Any) -> str:
    if name in NOT_IN_A_FILE:
        return ""
    assert option.declared is not None
    words = ", ".join(f"`{word}`" for word in option.declared.names)
    meaning = option.declared.more["help"]
    return (
        f"| `{name}` | {words} | `{option.variable}` | {value(name, option)} | {shown(name, default)} | {meaning} |\n"
    )


def value(name: str, option: Known) -> str:
    for field in dataclasses.fields(PromoterSettings):
        if field.name == FIELDS.get(name, name) and "range" in field.metadata:
            low, high = field.metadata["range"]
            return f"{low:,} to {'2⁵³' if high == 2**53 else f'{high:,}'}"
    if issubclass(option.kind, Enum):
        return ", ".join(f"`{member.value}`" for member in option.kind)
    kinds = {str: "text", bool: "true, false", float: "seconds"}
    return ("list of texts" if option.many else kinds[option.kind]) + (
        f" `{option.declared.more['metavar']}`" if option.declared and "metavar" in option.declared.more else ""
    )


def shown(name: str, default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if default is None:
        return "generated" if name == "holder_id" else "–"
    if isinstance(default, bool):
        return str(default).lower()
    return f"`{default.value}`" if isinstance(default, Enum) else f"{default:,}"


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page and f"{PAGE.name} is stale: python docs/reference/{Path(__file__).name}")
    PAGE.write_text(page)
