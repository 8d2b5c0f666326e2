"""Writes docs/reference/spi.md from the docstrings of `promoter_core.spi` and `promoter_core.spi.model`.

python docs/reference/render_contracts.py           # write
python docs/reference/render_contracts.py --check   # fail when the page is not what would be written
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from enum import StrEnum
from pathlib import Path

from promoter_core import spi
from promoter_core.spi import model

CONTRACTS = (
    spi.Backend,
    spi.FleetSupport,
    spi.ChangeFeed,
    spi.DeadLetterSupport,
    spi.DiagnosticsSupport,
    spi.EventSink,
    spi.FailureReportSupport,
    spi.MetricsSink,
    spi.SinkMonitor,
    spi.ExpositionSupport,
    spi.Clock,
)
PAGE = Path(__file__).parent / "spi.md"
HEAD = """# The contracts

Made from the docstrings of `promoter_core/spi/` and the values of `promoter_core/spi/model.py` by
`python docs/reference/render_contracts.py`. A backend, sink or clock is any object with these methods; it need not
inherit from anything.

"""


def render() -> str:
    parts = [HEAD]
    for cls in CONTRACTS:
        parts.append(f"## `{cls.__name__}`\n\n{inspect.getdoc(cls)}\n\n")
        for name, member in vars(cls).items():
            function = member.fget if isinstance(member, property) else member
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            kind = "async " if inspect.iscoroutinefunction(function) else ""
            signature = (
                re.sub(r"['\"]", "", str(inspect.signature(function))).replace("(self, ", "(").replace("(self)", "()")
            )
            shown = f"{name} -> Capabilities" if isinstance(member, property) else f"{kind}{name}{signature}"
            parts.append(f"### `{shown}`\n\n{inspect.getdoc(function)}\n\n")
    parts.append("## Values\n\n")
    for name, cls in vars(model).items():
        if not inspect.isclass(cls) or cls.__module__ != model.__name__:
            continue
        if issubclass(cls, StrEnum):
            choices = ", ".join(f"`{m.name}` = `{m.value}`" for m in cls)
            parts.append(f"**`{name}`** — {inspect.getdoc(cls)} {choices}.\n\n")
        elif dataclasses.is_dataclass(cls):
            fields = ", ".join(f"{f.name}: {f.type}" for f in dataclasses.fields(cls))
            parts.append(f"**`{name}({fields})`** — {inspect.getdoc(cls)}\n\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    page = render()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page and f"{PAGE.name} is stale: python docs/reference/{Path(__file__).name}")
    PAGE.write_text(page)
