"""The lines of help that shells show beside commands and options, for which typer is too slow.

python -m tests.unit.completion_help            # print the module
python -m tests.unit.completion_help --write    # write promoter_core/cli/completion_help.py

A command's line is the first sentence of its help, an option's all of it.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter, defaultdict
from pathlib import Path

import typer

from promoter_core.cli import commands, completion, plugin_commands
from promoter_core.cli.app import build
from promoter_core.cli.session import registry
from tests.typed import untyped

COMMITTED = Path(commands.__file__).with_name("completion_help.py")
COMMAND = "python -m tests.unit.completion_help --write"
HEAD = f'''"""The line of help of each command and option, for shells that show it.

Written by `{COMMAND}`.
"""

# ruff: noqa: E501

from __future__ import annotations

'''
SHARED = "SHARED = {  # the usual line of each option\n"
HELP = "HELP: dict[str, dict[str, str]] = {  # by command, as in `completion.OPTIONS`: all that differs\n"


@functools.cache
def group():
    """The command line in typer, where each command is made once."""
    made = untyped(typer.main.get_command(build(registry)))
    made._load = functools.cache(made._load)
    return made


def command(path):
    """The command of these words, such as `dead-letters list`."""
    found = group()
    for word in path.split():
        _, found, _ = found.resolve_command(None, [word])
    return found


def helps(path):
    """The commands and options in a command, with their lines of help."""
    inner = [name.removeprefix(path).strip() for name in completion.OPTIONS if name.rpartition(" ")[0] == path and name]
    if not path:
        inner += sorted(filter(None, plugin_commands.OWN.values()))
    found = command(path)
    yield from ((name, sentence(command(f"{path} {name}").help)) for name in inner)
    for param in found.get_params(typer.Context(found)):
        if param.param_type_name == "option":
            yield from ((name, line(param.help)) for name in [*param.opts, *param.secondary_opts])


def line(text):
    return " ".join(text.split())


def sentence(text):
    """The first one, without a full stop that is none of its own."""
    first, stop, _ = line(text).partition(". ")
    return first + stop.strip()


def render():
    found = {path: dict(helps(path)) for path in completion.OPTIONS}
    lines_of: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for texts in found.values():
        for name, text in texts.items():
            if name.startswith("-"):
                lines_of[name][text] += 1
    usual = {name: counted.most_common(1)[0] for name, counted in lines_of.items()}
    shared = {name: text for name, (text, times) in usual.items() if times > 1}
    text = HEAD + SHARED + "".join(f"    {quoted(n)}: {quoted(t)},\n" for n, t in shared.items()) + "}\n\n" + HELP
    for path, texts in found.items():
        own = [f"        {quoted(n)}: {quoted(t)},\n" for n, t in texts.items() if shared.get(n) != t]
        text += f"    {quoted(path)}: {{\n{''.join(own)}    }},\n" if own else ""
    return text + "}\n"


def quoted(text):
    """As ruff formats it."""
    return repr(text) if '"' in text else f'"{text}"'


if __name__ == "__main__":
    if "--write" in sys.argv:
        COMMITTED.write_text(render())
    else:
        sys.stdout.write(render())
