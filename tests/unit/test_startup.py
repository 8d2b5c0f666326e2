"""A command imports what it uses, and the ways around typer answer as typer does."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import subprocess
import sys
import typing
from importlib import metadata
from unittest import mock

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer._completion_classes import BashComplete

import promoter_core
from promoter_core import Overflow, Registry
from promoter_core.cli import commands, completion, completion_scripts
from promoter_core.cli.app import build
from promoter_core.cli.arguments import for_typer, parse_plain
from promoter_core.cli.run import LogFormat, run
from tests.typed import untyped
from tests.unit.distributions import COMMAND, install

HEAVY = {"typer", "rich", "pydantic", "click", "msgpack", "pluggy", "asyncio", "ulid", "redis", "importlib.metadata"}
REPORT = "import sys; print(*sorted(sys.modules), file=sys.stderr)"
MAIN = f"""
import atexit, sys
sys.argv = ['promoter', *sys.argv[1:]]
atexit.register(lambda: exec({REPORT!r}))
from promoter_core.cli import main
main()
"""


def process(code, *arguments, env=None):
    """What a process prints, and the modules it has imported at its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PROMOTER_", "COV_"))} | (env or {})
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def test_ctrl_c_while_a_command_is_imported_ends_it_without_a_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-m", "promoter_core", "queues", "--url", "memory://"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_the_version_is_told_before_anything_is_imported():
    told, modules = process(MAIN, "--version")
    assert told == f"promoter {promoter_core.__version__}\n"
    assert modules & (HEAVY | {"typing", "enum", "signal"}) == set()
    ours = {name for name in modules if name.startswith("promoter_core")}
    assert ours == {"promoter_core", "promoter_core.cli", "promoter_core.spi", "promoter_core.spi.lazy"}


def test_the_version_is_that_of_the_distribution():
    assert promoter_core.__version__ == metadata.version("promoter-core")


@pytest.mark.parametrize("words", [("--debug", "--version"), ("--version", "run")])
def test_the_version_among_other_words_is_told_by_typer(words):
    assert process(MAIN, *words)[0] == f"promoter {promoter_core.__version__}\n"


def test_whoever_hangs_up_before_the_version_is_told_costs_no_traceback():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as out:
        command = [sys.executable, "-m", "promoter_core", "--version"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("module", ["promoter_core", "promoter_core.spi"])
def test_a_public_module_imports_nothing_before_a_name_is_used(module):
    _, modules = process(f"import {module}\n{REPORT}")
    assert {name for name in modules if name.startswith("promoter_core")} == {
        "promoter_core",
        "promoter_core.spi",
        "promoter_core.spi.lazy",
    }
    assert modules & HEAVY == set()


def test_the_whole_spi_imports_nothing_of_the_core_but_itself():
    _, modules = process(f"from promoter_core.spi import *\n{REPORT}")
    ours = {name.split(".")[1] for name in modules if name.startswith("promoter_core.")}
    assert ours == {"spi"}


def test_a_plugin_that_registers_imports_the_hooks_alone():
    _, modules = process(f"import promoter_redis.plugin\n{REPORT}")
    assert {n for n in modules if n.startswith("promoter_core.spi.")} == {
        "promoter_core.spi.lazy",
        "promoter_core.spi.hooks",
    }
    assert modules & {"asyncio", "msgpack", "redis"} == set()


def test_a_plain_run_imports_neither_typer_nor_what_it_does_not_use():
    _, modules = process(MAIN, "run", "--url", "memory://", "-q", "a", "--until-idle", "--log-format", "json")
    assert "promoter_core.runner.promoter" in modules
    assert modules & {"typer", "rich", "pydantic", "click", "redis", "aiohttp", "difflib"} == set()
    assert modules & {"promoter_core.runner.fleet", "promoter_core.web", "promoter_core.client"} == set()


def test_help_imports_no_command():
    told, modules = process(MAIN, "--help")
    assert "demo" in told
    assert {m for m in modules if m.startswith("promoter_core.")} & {
        f"promoter_core.cli.{commands.COMMANDS[name][0].partition(':')[0]}" for name in commands.COMMANDS
    } == set()
    assert modules & {"asyncio", "promoter_demo.command", "promoter_bench.command"} == set()


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_commands_line_of_help_is_its_docstring(name):
    target, (_, summary) = commands.load(name), commands.COMMANDS[name]
    assert summary == (target.info.help if isinstance(target, typer.Typer) else inspect.getdoc(target))


@functools.cache
def group():
    """Each of its commands is made once."""
    made = untyped(typer.main.get_command(build(Registry)))
    made._load = functools.cache(made._load)
    return made


@pytest.mark.parametrize("name", [*commands.COMMANDS, "demo", "bench"])
def test_a_commands_line_of_help_is_the_beginning_of_its_own(name):
    listed, (_, loaded, rest) = group().get_command(None, name), group().resolve_command(None, [name, "x"])
    assert (loaded.name, loaded.help, rest) == (name, listed.help, ["x"])
    assert "--help" in {option for param in loaded.get_params(typer.Context(loaded)) for option in param.opts}


# ----- arguments -----


@functools.wraps(run)
def given_by_typer(**arguments):
    return arguments


APP = typer.Typer()
APP.command()(for_typer(given_by_typer))
RUN = typer.main.get_command(APP)


def by_typer(words):
    """The arguments for `run`, or the error."""
    try:
        return RUN.main(list(words), standalone_mode=False, prog_name="run")
    except Exception as exc:
        return exc


PLAIN = ["--url", "memory://", "-q", "a"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["--queue", "b"], {"queue": ["a", "b"]}),
        (["--queue=b-*"], {"queue": ["a", "b-*"]}),
        (["--until-idle", "--no-events"], {"until_idle": True, "events": False}),
        (["--overflow", "trim", "--log-format=json"], {"overflow": Overflow.TRIM, "log_format": LogFormat.JSON}),
        (["--batch", "8", "--connect-timeout", "0.5"], {"batch": 8, "connect_timeout": 0.5}),
        (["--metrics", "statsd:host=x,port=1", "--metrics=logging"], {"metrics": ["statsd:host=x,port=1", "logging"]}),
        (["--http", ":9464", "--holder-id", "me"], {"http": ":9464", "holder_id": "me"}),
    ],
)
def test_plain_arguments_need_no_typer_and_mean_the_same(words, expected):
    found = parse_plain(run, PLAIN + words, {})
    assert found is not None
    assert {name: found[name] for name in expected} == expected
    assert found == by_typer(PLAIN + words)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["extra"],
        ["--"],
        ["-qb"],
        ["--batch"],
        ["--batch", "many"],
        ["--batch", "-5"],
        ["--batch", "007"],
        ["--batch", "1", "--batch", "2"],
        ["--overflow", "TRIM"],
        ["--until-idle=1"],
        ["--events", "--no-events"],
        ["--unknown", "1"],
        ["--hold", "me"],
        ["--holder-id", "a\udcff"],
    ],
)
def test_other_arguments_are_left_to_typer(words):
    assert parse_plain(run, PLAIN + words, {}) is None


def test_a_missing_option_is_left_to_typer():
    assert parse_plain(run, ["--url", "memory://"], {}) is None
    assert parse_plain(run, ["-q", "a"], {"PROMOTER_URL": ""}) is None


OPTIONS = sorted({name for option in completion.OPTIONS["run"].split() for name in completion._names(option)})
VALUES = ["", "a", "b c", "5", "0", "-1", "007", "1.5", ".5", "1e3", "nan", "1_000", " 7", "٣", "hold", "TRIM", "text"]
VALUES += ["json", "redis://h?a=b", "true", "x=y", "--url", "-q"]
word = st.one_of(
    st.sampled_from([*OPTIONS, "--", "-", "run"]),
    st.sampled_from(VALUES),
    st.builds("{}={}".format, st.sampled_from(OPTIONS), st.sampled_from(VALUES)),
    st.text(st.characters(codec="utf-8"), max_size=4),
)
pair = st.tuples(st.sampled_from(OPTIONS), st.sampled_from(VALUES)).map(list)
hints = typing.get_type_hints(run, include_extras=True).values()
variables = [
    part.more["envvar"] for hint in hints for part in getattr(hint, "__metadata__", ()) if "envvar" in part.more
]


@settings(max_examples=600, deadline=None)
@given(
    words=st.lists(st.one_of(pair, word.map(lambda w: [w])), max_size=6).map(
        lambda parts: list(itertools.chain(*parts))
    ),
    plain=st.booleans(),
    environ=st.dictionaries(st.sampled_from(variables), st.sampled_from(VALUES), max_size=3),
)
def test_arguments_that_are_read_without_typer_are_read_as_typer_does(words, plain, environ):
    words = PLAIN + words if plain else words
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMOTER_")}
    found = parse_plain(run, words, clean | environ)
    if found is not None:
        with mock.patch.dict(os.environ, clean | environ, clear=True):
            expected = by_typer(words)
        assert found == expected
        assert list(map(type, found.values())) == list(map(type, expected.values()))


# ----- completion -----


def completed_by_typer(before, begun):
    shell = BashComplete(group(), {}, "promoter", completion.VARIABLE)
    return [item.value for item in shell.get_completions(list(before), begun)]


@pytest.mark.parametrize("command", completion.OPTIONS)
def test_completion_without_typer_offers_what_typer_does(command):
    path = command.split()
    for begun in ("", "-", "--", "--q", "--e", "r", "de", "zz", "/"):
        assert completion.complete(path, begun) == completed_by_typer(path, begun)
    for option in completion._options(command):
        for name in completion._names(option):
            for before in ([name], [name, "text"], [name, "text", "--url", "u"]):
                for begun in ("", "-", "t", "--no"):
                    found = completion.complete([*path, *before], begun)
                    assert found is None or found == completed_by_typer([*path, *before], begun), (before, begun)


def test_every_option_and_command_can_be_completed_without_typer():
    listed = group()
    own = {name: listed.resolve_command(None, [name])[1] for name in commands.COMMANDS}
    inner = {f"dead-letters {name}": command for name, command in own["dead-letters"].commands.items()}
    assert completion.OPTIONS.keys() == {"", *own, *inner}


def test_what_is_not_known_for_sure_is_left_to_typer():
    for before, begun in [
        (["demo"], "--"),
        (["nope"], ""),
        (["run", "--url=x"], "--"),
        (["run", "--url"], "-"),
        (["run", "--help"], ""),
        (["run"], "--url="),
        (["cancel", "id"], "--"),
    ]:
        assert completion.complete(before, begun) is None


@pytest.mark.parametrize(
    "environ",
    [
        {completion.VARIABLE: "complete_tcsh"},
        {completion.VARIABLE: "source_powershell"},
        {completion.VARIABLE: "source_tcsh"},
        {completion.VARIABLE: "source"},
        {completion.VARIABLE: "complete_bash", "COMP_WORDS": "promoter 'ru", "COMP_CWORD": "1"},
        {completion.VARIABLE: "complete_bash", "COMP_WORDS": "promoter ru", "COMP_CWORD": "x"},
        {completion.VARIABLE: "complete_bash", "COMP_WORDS": "promoter", "COMP_CWORD": "0"},
        {},
    ],
)
def test_other_requests_are_left_to_typer(environ):
    assert completion.answer(environ, "promoter") is None


def asked(**environ):
    return process(MAIN, env={completion.VARIABLE: "complete_bash"} | environ)


def test_bash_has_its_answer_without_typer():
    told, modules = asked(COMP_WORDS="promoter run --lo", COMP_CWORD="2")
    assert told == "--lock-ttl-ms\n--log-format\n"
    assert modules & HEAVY == set()
    told, modules = asked(COMP_WORDS="promoter d", COMP_CWORD="1")
    assert told == "doctor\ndead-letters\ndemo\n"
    assert modules & (HEAVY | {"promoter_core.registry", "promoter_core.spi.hooks", "promoter_demo"}) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed_without_typer(shell):
    told, modules = asked(**{completion.VARIABLE: f"source_{shell}"})
    assert told.rstrip("\n") == completion_scripts.script(shell)
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    ("shell", "first", "command"),
    [
        ("zsh", '_arguments \'*: :(("--lock-ttl-ms":"The leader', '_arguments \'*: :(("schedule":"Sch'),
        ("fish", "--lock-ttl-ms\tThe leader's lease.\n--log-", "schedule\tSchedule a job and print its id.\n"),
        ("pwsh", "--lock-ttl-ms:::The leader's lease.\n--log-", "schedule:::Schedule a job and print its id.\n"),
    ],
    ids=["zsh", "fish", "pwsh"],
)
def test_the_other_shells_have_their_answers_without_typer(shell, first, command):
    for line, expected in [("promoter run --lo", first), ("promoter sch", command)]:
        env = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        env |= {"_TYPER_COMPLETE_WORD_TO_COMPLETE": line.split()[-1]} if shell == "pwsh" else {}
        told, modules = asked(**{completion.VARIABLE: f"complete_{shell}"} | env)
        assert told.startswith(expected)
        assert modules & (HEAVY | {"promoter_core.registry", "promoter_core.spi.hooks", "promoter_demo"}) == set()


def test_typer_answers_the_rest():
    script, _ = asked(**{completion.VARIABLE: "source_powershell"})
    assert "Register-ArgumentCompleter -Native -CommandName promoter" in script
    told, _ = asked(COMP_WORDS="promoter demo --j", COMP_CWORD="2")
    assert told == "--jobs\n"
    told, _ = asked(**{completion.VARIABLE: "complete_zsh", "_TYPER_COMPLETE_ARGS": "promoter demo --j"})
    assert told.startswith('_arguments \'*: :(("--jobs":')


def test_the_command_of_a_plugin_that_cannot_be_loaded_is_listed_and_completed(site):
    install(site, "vac-store", "1", "vac", COMMAND)
    env = {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    told, _ = process(MAIN, "--help", env=env)
    assert "compact the file" in told
    told, _ = asked(COMP_WORDS="promoter vac", COMP_CWORD="1", **env)
    assert told == "vacuum\n"
