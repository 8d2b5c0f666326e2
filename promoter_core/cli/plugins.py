"""`promoter plugins`: what is installed, from which distribution, and what is missing."""

from __future__ import annotations

from typing import Any

from promoter_core import BrokenPlugin, Registered
from promoter_core.cli import options, output, session
from promoter_core.spi import BackendSpec


def plugins(json: options.Json = False) -> None:
    """List backends, sinks, serializers and commands. Imports no driver."""
    found, broken = session.registry().all(), session.registry().broken()
    if json:
        output.print_json({"plugins": [_row(r) for r in found], "broken": [_broken(b) for b in broken]})
        return
    kind = ""
    for row in map(_row, found):
        if row["kind"] != kind:
            kind = row["kind"]
            output.out.print(f"[bold]{kind}s[/]")
        needs = f"needs {', '.join(row['missing'])}: {row['install']}"
        state = f"[yellow]{output.plain(needs)}[/]" if row["missing"] else "[green]ready[/]"
        schemes = "".join(f" {s}://" for s in row["schemes"])
        _line(f"  [bold]{output.plain(row['name'])}[/]{output.plain(schemes)}  {state}")
        _line(f"      [dim]{output.plain(row['summary'])} ({output.plain(row['source'])})[/]")
    for b in broken:
        output.fail(f"plugin {b.name!r} of {b.source} is broken: {b.why}")


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


def _broken(broken: BrokenPlugin) -> dict[str, str]:
    return {"name": broken.name, "source": broken.source, "error": broken.why}


def _line(text: str) -> None:
    output.out.print(text, highlight=False, soft_wrap=True)
