"""`promoter plugins`: what is installed, from which distribution, and what is missing."""

from __future__ import annotations

from typing import Any

from promoter_core.cli import common
from promoter_core.hookspecs import BackendSpec
from promoter_core.registry import Broken, Registered


def plugins(json: common.Json = False) -> None:
    """List backends, sinks and commands. Imports no driver."""
    found, broken = common.registry().all(), common.registry().broken()
    if json:
        common.print_json({"plugins": [_row(r) for r in found], "broken": [_broken(b) for b in broken]})
        return
    kind = ""
    for row in map(_row, found):
        if row["kind"] != kind:
            kind = row["kind"]
            common.out.print(f"[bold]{kind}s[/]")
        needs = f"needs {', '.join(row['missing'])}: {row['install']}"
        state = f"[yellow]{common.plain(needs)}[/]" if row["missing"] else "[green]ready[/]"
        schemes = "".join(f" {s}://" for s in row["schemes"])
        _line(f"  [bold]{common.plain(row['name'])}[/]{common.plain(schemes)}  {state}")
        _line(f"      [dim]{common.plain(row['summary'])} ({common.plain(row['source'])})[/]")
    for b in broken:
        common.fail(f"plugin {b.name!r} of {b.source} is broken: {b.why}")


def _row(registered: Registered) -> dict[str, Any]:
    spec = registered.spec
    return {
        "kind": registered.kind,
        "name": spec.name,
        "schemes": list(spec.schemes) if isinstance(spec, BackendSpec) else [],
        "summary": spec.summary,
        "source": registered.source,
        "missing": list(registered.missing),
        "install": f"pip install '{spec.install}'" if spec.install else "",
    }


def _broken(broken: Broken) -> dict[str, str]:
    return {"name": broken.name, "source": broken.source, "error": broken.why}


def _line(text: str) -> None:
    common.out.print(text, highlight=False, soft_wrap=True)
