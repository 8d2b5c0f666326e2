"""Answer the completion requests of shells, and requests for a script, without typer, which is too slow to import.

Only the contents of `OPTIONS` and unambiguous words are answered. Typer handles the rest: quoted words, and options of
plugins' commands. A test compares these answers with typer's.
"""

from __future__ import annotations

import os
import sys

from promoter_core.cli import commands, completion_scripts, completion_shells, plugin_commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VARIABLE = "_PROMOTER_COMPLETE"

# The options of each command, with all of their names. `=` marks an option with a value, from the values listed after
# it if any; `*` marks an option that can be repeated.
OPTIONS = {
    "": "--debug --version --help",
    "run": (
        "--url= *--queue/-q= --layout= --config= --print-config --until-idle --poll-interval-ms= --batch= "
        "--max-tick-ms= --lock-ttl-ms= --follower-poll-ms= --holder-id= --max-stream-len= --overflow=hold,trim "
        "--events/--no-events --events-max-stream-len= *--metrics= *--event-sink= --connect-timeout= --http= "
        "--store-metrics *--page= --uvloop --log-format=text,json --help"
    ),
    "schedule": (
        "--url= --queue/-q= --delay= --at= --name= --id= --on-repeat=keep,replace,extend,error --keep-id-for= "
        "--layout= --json --help"
    ),
    "queues": "--url= --layout= --json --help",
    "list": (
        "--url= --queue/-q= --limit/-n= --after= --all *--where= --due-from= --due-before= --reverse "
        "--layout= --json --help"
    ),
    "show": "--url= --queue/-q= --layout= --json --help",
    "count": "--url= --queue/-q= --due-from= --due-before= --histogram --edges= --layout= --json --help",
    "cancel": "--url= --queue/-q= *--where= --due-from= --due-before= --all --dry-run --layout= --json --help",
    "reschedule": (
        "--url= --queue/-q= --delay= --at= --by= *--where= --due-from= --due-before= --all --dry-run "
        "--layout= --json --help"
    ),
    "run-now": (
        "--url= --queue/-q= *--where= --due-before= --all --max-stream-len= --events/--no-events --dry-run "
        "--layout= --json --help"
    ),
    "replace": "--url= --queue/-q= --name= --delay= --at= --keep-id-for= --layout= --json --help",
    "retry": "--url= --queue/-q= --from=stream,dlq --delay= --at= --layout= --json --help",
    "export": "--url= --queue/-q= --overwrite --layout= --json --help",
    "import": "--url= --queue/-q= --skip= --layout= --json --help",
    "copy": "--from= --to= --queue/-q= --to-queue= --after= --from-layout= --to-layout= --json --help",
    "exporter": (
        "--url= *--queue/-q= --layout= --listen= --refresh= --max-queues= --queues-per-second= --forget-after= "
        "--log-format=text,json --help"
    ),
    "watch": "--url= *--queue/-q= --layout= --refresh= --read-only --once --json --help",
    "ui": (
        "--url= *--queue/-q= --layout= --host= --port= --token= --session= --allow-actions --public "
        "*--allow-host= --hide-data --log-format=text,json --help"
    ),
    "inspect": "--url= --queue/-q= --layout= --json --help",
    "plugins": "--json --help",
    "doctor": "--url= --queue/-q= --layout= --json --help",
    "dead-letters": "--help",
    "dead-letters list": "--url= --queue/-q= --layout= --json --help",
    "dead-letters show": "--url= --queue/-q= --layout= --json --help",
    "dead-letters requeue": "--url= --queue/-q= --reason= --all --dry-run --layout= --json --help",
    "dead-letters delete": "--url= --queue/-q= --reason= --all --dry-run --layout= --json --help",
}


def answer(environ: Mapping[str, str], program: str) -> str | None:
    """Return the completions, a line each, or a script; None for another request, or one for typer."""
    request, _, shell = environ.get(VARIABLE, "").partition("_")
    if program != "promoter":
        return None
    if request == "source":
        return completion_scripts.script(shell)
    if request != "complete" or shell not in completion_shells.SHELLS:
        return None
    asked = completion_shells.asked(shell, environ)
    if asked is None or (offered := complete(*asked)) is None:
        return None
    with_help = [(word, "") for word in offered] if shell == "bash" else explain(asked[0], offered)
    return completion_shells.reply(shell, environ, with_help)


def complete(before: Sequence[str], begun: str) -> list[str] | None:
    """Return the words that can complete `begun`."""
    if (place := _place(before)) is None:
        return None
    command, given, wanting = place
    if begun.startswith("-"):
        if wanting or "=" in begun:
            return None
        options = [option for option in _options(command) if option[0] == "*" or option not in given]
        offered = [name for option in options for name in _names(option)]
    elif wanting:
        offered = [value for value in wanting.partition("=")[2].split(",") if value]
    else:
        offered = _commands(command)
    return [word for word in offered if word.startswith(begun)]


def explain(before: Sequence[str], offered: Sequence[str]) -> list[tuple[str, str]]:
    """Return the words that `complete` offers, each with its line of help; "" for the value of an option."""
    from promoter_core.cli.completion_help import HELP, SHARED

    command, _, wanting = _place(before) or ("", [], "")
    known = {} if wanting else SHARED | HELP.get(command, {})
    if not command and not known.keys() >= set(offered):
        known = {name: " ".join(summary.split()) for name, summary in _registered().items()} | known
    return [(word, known.get(word, "")) for word in offered]


def _place(before: Sequence[str]) -> tuple[str, list[str], str] | None:
    """Return the command, its options so far, and the one whose value is next, or ""; None if any word is unknown."""
    given: list[str] = []
    command = ""
    options, wanting = _options(command), ""
    for word in before:
        if wanting:
            wanting = ""
        elif (option := _named(options, word)) is not None:
            given.append(option)
            wanting = option if "=" in option else ""
        elif (inner := f"{command} {word}".strip()) in OPTIONS:
            command, given, options = inner, [], _options(inner)
        else:
            return None
    return command, given, wanting


def _options(command: str) -> list[str]:
    return OPTIONS[command].split()


def _names(option: str) -> list[str]:
    return option.strip("*").partition("=")[0].split("/")


def _named(options: list[str], word: str) -> str | None:
    """Return the option of that name, except those that end the command line."""
    found = next((option for option in options if word in _names(option)), None)
    return None if word in ("--help", "--version") else found


def _commands(command: str) -> list[str]:
    if command:
        return [name.removeprefix(f"{command} ") for name in OPTIONS if name.startswith(f"{command} ")]
    of_plugins = plugin_commands.own_commands()
    return [*commands.COMMANDS, *(_registered() if of_plugins is None else of_plugins)]


def _registered() -> dict[str, str]:
    """Return the summaries of the commands of all plugins."""
    from promoter_core.cli import session

    return {r.spec.name: r.spec.summary for r in session.registry().all() if r.kind == "command"}


def answered() -> bool:
    """Return whether this process was a completion request, which has now been answered."""
    if VARIABLE not in os.environ:
        return False
    program = sys.argv[0].replace(os.sep, "/").rpartition("/")[2]
    text = answer(os.environ, program)
    if text is None:
        return False
    print(text)
    return True
