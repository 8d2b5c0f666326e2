"""Zsh, fish and PowerShell get the words that typer answers, and each word's whole line of help on one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from unittest import mock

import pytest
from typer import _completion_classes as by_typer
from typer import rich_utils

from promoter_core.cli import completion, completion_shells
from tests.typed import untyped
from tests.unit import completion_help
from tests.unit.distributions import COMMAND, install

SHELLS = {
    "zsh": by_typer.ZshComplete,
    "fish": by_typer.FishComplete,
    "powershell": by_typer.PowerShellComplete,
    "pwsh": by_typer.PowerShellComplete,
}
LINES = [
    "promoter",
    "promoter ",
    "promoter  d",
    "promoter -",
    "promoter --debug ",
    "promoter --debug sch",
    "promoter zz",
    "promoter run",
    "promoter run ",
    "promoter run --",
    "promoter run -q a --lo",
    "promoter run --no-events --",
    "promoter run --url ",
    "promoter run --url redis://h:1 --",
    "promoter run --log-format ",
    "promoter run --log-format j",
    "promoter retry --from ",
    "promoter count --",
    "promoter dead-letters ",
    "promoter dead-letters re",
    "promoter dead-letters list --",
    "promoter dead-letters --",
]


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Typer breaks a long line of help at this width; ours stays one line."""
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 1000)


def request(shell, line):
    """The variables that a shell sets."""
    powershell = shell in ("powershell", "pwsh")
    begun = line.rpartition(" ")[2] if powershell and " " in line else ""
    return {
        completion.VARIABLE: f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": line.rstrip() if powershell else line,
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": begun,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


def typers(shell):
    return untyped(SHELLS[shell])(completion_help.group(), {}, "promoter", completion.VARIABLE)


IN_ZSH = re.compile(r'"([^"\\]*)"(?::"((?:[^"\\]|\\.)*)")?')


def items(shell, text):
    """The words and their helps in an answer."""
    if shell == "zsh":
        text = re.sub(r"'\\''|''", "'", text)  # typer's doubled quote is lost, as zsh joins both parts
        return [(word, re.sub(r"\\+(.)", r"\1", help)) for word, help in IN_ZSH.findall(text)]
    return [tuple(re.split("\t|:::", line, maxsplit=1)) for line in text.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("line", LINES)
def test_a_shell_gets_the_answer_that_typer_gives(shell, line):
    """Typer cuts the help of a command to 45 characters; ours is the whole sentence. An option's is the same."""
    environ = request(shell, line)
    with mock.patch.dict(os.environ, environ):
        expected = typers(shell).complete()
    told = completion.answer(environ, "promoter")
    assert told is not None
    ours, theirs = items(shell, told), items(shell, expected)
    assert [word for word, *_ in ours] == [word for word, *_ in theirs]
    assert ours or told == expected
    for (_, *our_help), (_, *their_help) in zip(ours, theirs, strict=True):
        assert "".join(our_help).startswith("".join(their_help).removesuffix("..."))
        assert our_help == their_help or "".join(their_help).endswith("...")


@pytest.mark.parametrize("path", completion.OPTIONS)
def test_each_word_that_is_offered_has_a_line_of_help(path):
    before = path.split()
    for begun in ("", "-"):
        offered = completion.complete(before, begun)
        assert offered is not None
        assert all(help and "\n" not in help for _, help in completion.explain(before, offered))


def test_the_lines_of_help_are_those_of_the_commands():
    committed = completion_help.COMMITTED.read_text()
    assert completion_help.render() == committed, f"run `{completion_help.COMMAND}`"


@pytest.mark.parametrize(("line", "status"), [("promoter sch", 0), ("promoter zz", 1), ("promoter run --url ", 1)])
def test_the_exit_status_says_to_fish_whether_there_is_anything_to_offer(line, status):
    environ = request("fish", line) | {"_TYPER_COMPLETE_FISH_ACTION": "is-args"}
    for ask in (lambda: completion.answer(environ, "promoter"), lambda: typers("fish").complete()):
        with mock.patch.dict(os.environ, environ), pytest.raises(SystemExit) as ended:
            ask()
        assert ended.value.code == status


@pytest.mark.parametrize(
    "line", ["promoter 'ru", "promoter run\\ ", 'promoter run --url "', "promoter demo --", "A=1 promoter r"]
)
@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_not_known_for_sure_is_left_to_typer(shell, line):
    assert completion.answer(request(shell, line), "promoter") is None


ODD = 'say "hi" to Ann\'s `id` in $HOME: \\ C:\\x [b] {c} (d) *.py ~'
READ = r"""
_arguments() {
    local action=${${1#'*: :'}//\\:/:}
    eval "words=( ${action[3,-3]} )"
    print -rl -- $words
}
eval $(<"$1")
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize("options", [[], ["-o", "rcquotes"]])
def test_zsh_reads_any_line_of_help(options, tmp_path):
    """The stand-in does as zsh's `_arguments`: it drops a backslash before a colon and evaluates the list."""
    (tmp_path / "told").write_text(completion_shells.reply("zsh", {}, [("a:b", ODD), ("c", ""), ("d", "e")]))
    (tmp_path / "read").write_text(READ)
    command = ["zsh", "-f", *options, str(tmp_path / "read"), str(tmp_path / "told")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    escaped = ODD.replace("\\", "\\\\").replace(":", "\\:")  # zsh's `_describe` reads each item this way
    assert done.stdout.splitlines() == [f"a\\:b:{escaped}", "c", "d:e"]


def test_the_command_of_a_third_partys_plugin_has_its_summary(site):
    install(site, "vac-store", "1", "vac", COMMAND.replace("compact", "compact\\n"))
    env = {k: v for k, v in os.environ.items() if not k.startswith("COV_")} | request("fish", "promoter vac")
    env["PYTHONPATH"] = os.pathsep.join([str(site), *sys.path])
    code = (
        "import sys; sys.argv = ['promoter']; from promoter_core.cli import main; main(); print('typer' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "vacuum\tcompact the file\nFalse\n"
