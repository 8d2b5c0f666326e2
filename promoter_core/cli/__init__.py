"""The `promoter` command: a file for each command, or for several similar ones, listed in `commands.py`.

`launch.py` starts them: through typer and `app.py`, or with `arguments.py` alone if the arguments are plain, because
typer is slow to import. `completion.py` answers shells, with `plugin_commands.py`, `completion_scripts.py`,
`completion_shells.py` and `completion_help.py`. They share `options.py`, `times.py` and `data.py` (options and their
parsing), `jobs.py` (selecting and showing waiting jobs), `near.py` (queues by pattern, and the nearest name),
`job_files.py`, `progress.py`, `output.py` (text for a terminal), `session.py` (the registry, and an open backend),
`logs.py` with `json_logs.py`, `signals.py`, and `lasting.py` (start and end of commands that run until a signal).
`config_file.py` reads the file of `promoter run --config`. `live/` is the view of `watch`.
"""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130  # the exit code after Ctrl-C


def main() -> None:
    """Run the command line. Explains how to install the `cli` extra if it is missing."""
    if sys.argv[1:] == ["--version"]:  # answer before importing anything
        _show_version()
        return
    if "_PROMOTER_COMPLETE" in os.environ:
        from promoter_core.cli.completion import answered

        if answered():
            return
    from promoter_core.cli.signals import end_at_once_on_signals

    end_at_once_on_signals()
    try:
        _start()
    except KeyboardInterrupt:  # Ctrl-C during the import
        sys.exit(INTERRUPTED)


def _start() -> None:
    from promoter_core.cli import launch

    try:
        command = launch.find(sys.argv[1:])
    except ModuleNotFoundError as exc:
        if exc.name not in launch.NEEDED:
            raise
        sys.exit(f"The command line needs the module {exc.name}: pip install 'promoter-core[cli]'")
    launch.run(command)


def _show_version() -> None:
    from promoter_core import __version__

    try:
        print(f"promoter {__version__}", flush=True)
    except BrokenPipeError:  # the reader of the pipe has closed it
        os._exit(1)
