"""Find the requested command and call it; turn errors into one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from promoter_core import ConfigError, JobError, PermanentError, PromoterError
from promoter_core.cli import INTERRUPTED, commands, session
from promoter_core.cli.arguments import parse_plain

FAILED, USAGE = 1, 2
NEEDED = ("typer", "rich", "click")  # required by the command line; older versions of typer need click
QUICK = "run"  # started without typer, so that a new leader is ready sooner


def find(words: list[str]) -> Callable[[], object]:
    """Return the requested command. Raises ModuleNotFoundError when typer is not installed."""
    if words[:1] == [QUICK] and _may_be_quick():
        function = commands.load(QUICK)
        arguments = parse_plain(function, words[1:], os.environ)
        if arguments is not None:
            return partial(function, **arguments)
    from promoter_core.cli.app import build

    return build(session.registry)


def _may_be_quick() -> bool:
    """Return whether no global option is given, and typer is available to show errors."""
    asked = any(
        name == "PROMOTER_DEBUG" or (name.startswith("_") and name.endswith("_COMPLETE")) for name in os.environ
    )
    return not asked and os.name != "nt" and find_spec("typer") is not None and find_spec("rich") is not None


def run(command: Callable[[], object]) -> None:
    session.debug = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8 shows escapes
    try:
        command()
    except PromoterError as exc:
        from promoter_core.cli import output

        if session.debug:
            traceback.print_exc()
        output.fail(str(exc))
        bad_cursor = isinstance(exc, PermanentError) and exc.code == "BADCURSOR"  # an invalid --after
        sys.exit(USAGE if bad_cursor or isinstance(exc, ConfigError | JobError) else FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
