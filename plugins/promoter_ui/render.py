"""Templates. Text put into one is escaped: unprintable characters and HTML."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from promoter_core import __version__
from promoter_ui import text
from promoter_ui.board import LATE_S, STATES, states_of
from promoter_ui.charts import SPANS


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("promoter_ui"),
        autoescape=True,
        finalize=lambda value: text.shown(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": text.number,
        "interval": text.interval,
        "moment": text.moment,
        "rate": text.rate,
        "pre": _pre,
    }
    made.globals |= {
        "version": __version__,
        "link": text.link,
        "due_in": text.due_in,
        "states_of": states_of,
        "STATES": STATES,
        "LATE_S": LATE_S,
        "SPANS": SPANS,
    }
    return made


def _pre(lines: str) -> Markup:
    """Wrap lines that are already printable."""
    return escape(lines)


def render(template: str, values: dict[str, Any]) -> str:
    return _environment().get_template(f"{template}.html").render(values)
