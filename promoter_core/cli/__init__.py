"""The `promoter` command, one file a command, put together by `app.py`.

They share `options.py` (options and their parsers), `output.py` (text for a terminal), `session.py` (the registry, and
an open backend), `logs.py` with `json_logs.py`, and `signals.py`.
"""

from __future__ import annotations

import sys

from promoter_core.cli.signals import end_at_once_on_signals


def main() -> None:
    """The entry point. Says how to get what it needs where the `cli` extra is not installed."""
    end_at_once_on_signals()
    try:
        from promoter_core.cli.app import run
    except ModuleNotFoundError as exc:
        if exc.name not in ("typer", "rich", "click"):
            raise
        sys.exit(f"The command line needs the module {exc.name}: pip install 'promoter-core[cli]'")
    run()
