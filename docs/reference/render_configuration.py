"""Writes docs/reference/configuration.md from the options of `promoter run`.

python docs/reference/render_configuration.py           # write
python docs/reference/render_configuration.py --check   # fail when the page is not what would be written
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

Each option can be given in three places. The command line wins over the environment, and the environment over the file
that `--config` or `PROMOTER_CONFIG` names. What none of them gives has its default. A list replaces the list of a
later place; the two are not joined. [Configure a promoter](../how-to/deploy/configure.md) shows how to use them.

| in the file | option | variable | value | default | meaning |
|---|---|---|---|---|---|
"""
NOTES = """
The file is TOML, its keys stand at the top level. A list of one may be written as text: `queue = "emails"`. In a
variable, blanks separate the items of a list; an item with a blank in it needs the file or the command line. A switch
takes `1`, `true`, `yes`, `0`, `false` or `no` in a variable. An empty variable counts as unset.

`--config FILE` (`PROMOTER_CONFIG`) names the file. `--print-config` prints all values as TOML, with where each is from
and secrets masked, and ends. A file that cannot be read, a key that is no option and a value of another type end the
command with code 2 and one line.

`PROMOTER_DEBUG=1` is `promoter --debug …`. What the settings do is in [settings](settings.md); sinks and their options
are in [the command line](command-line.md#promoter-run).

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
        return "made up" if name == "holder_id" else "–"
    if isinstance(default, bool):
        return str(default).lower()
    return f"`{default.value}`" if isinstance(default, Enum) else f"{default:,}"


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page and f"{PAGE.name} is stale: python docs/reference/{Path(__file__).name}")
    PAGE.write_text(page)
