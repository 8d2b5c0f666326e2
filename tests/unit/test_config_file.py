"""`promoter run --config`: what is read, what wins, and one clear line for what cannot work."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from promoter_core import ConfigError, Overflow, Registry
from promoter_core.cli.arguments import for_typer, options_of, parse_plain
from promoter_core.cli.config_file import NOT_IN_A_FILE, read
from promoter_core.cli.run import LogFormat, run
from promoter_core.spi import SinkSpec, sink_options
from tests import processes
from tests.typed import present

ROOT = Path(__file__).parents[2]
KNOWN = options_of(run)
BASE = 'url = "memory://"\nqueue = "emails"\n'


@functools.wraps(run)
def given_by_typer(**arguments):
    return arguments


APP = typer.Typer()
APP.command()(for_typer(given_by_typer))
RUN = typer.main.get_command(APP)


@pytest.fixture
def file(tmp_path):
    """Writes the file, and returns its path."""

    def write(text):
        path = tmp_path / "promoter.toml"
        path.write_text(text)
        return str(path)

    return write


def promoter(*words, **environ):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMOTER_")} | environ
    command = [sys.executable, "-m", "promoter_core", *words]
    return processes.run(command, env=clean, capture_output=True, text=True, timeout=60)


def test_every_option_has_a_variable_of_its_name():
    for name, option in KNOWN.items():
        assert option.variable == f"PROMOTER_{name.upper()}" or name == "print_config"


def test_the_command_line_wins_over_the_environment_which_wins_over_the_file(file):
    path = file(BASE + "batch = 1\nlock_ttl_ms = 1000\nmax_tick_ms = 1\n")
    environ = {"PROMOTER_CONFIG": path, "PROMOTER_BATCH": "2", "PROMOTER_LOCK_TTL_MS": "2000"}
    found = present(parse_plain(run, ["--batch", "3"], environ))
    assert [found[name] for name in ("batch", "lock_ttl_ms", "max_tick_ms", "poll_interval_ms")] == [3, 2000, 1, 100]
    assert (found["url"], found["queue"]) == ("memory://", ["emails"])


def test_a_list_on_the_command_line_replaces_that_of_the_file(file):
    path = file(BASE + 'metrics = ["logging", "statsd"]\n')
    found = present(
        parse_plain(run, ["--config", path, "-q", "a", "-q", "b"], {"PROMOTER_METRICS": "prometheus logging"})
    )
    assert (found["queue"], found["metrics"]) == (["a", "b"], ["prometheus", "logging"])


def test_each_value_has_the_type_of_its_option(file):
    path = file(
        BASE + 'overflow = "trim"\nlog_format = "json"\nconnect_timeout = 5\nevents = false\nuntil_idle = true\n'
    )
    found = present(parse_plain(run, ["--config", path], {}))
    assert (found["overflow"], found["log_format"]) == (Overflow.TRIM, LogFormat.JSON)
    assert (found["events"], found["until_idle"]) == (False, True)
    assert isinstance(found["connect_timeout"], float)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bacth = 1", "unknown option 'bacth'; did you mean 'batch'?"),
        ("lock-ttl-ms = 1", "unknown option 'lock-ttl-ms'; did you mean 'lock_ttl_ms'?"),
        ("xyz = 1", "unknown option 'xyz'; options are: url, queue, "),
        ("config = 'other'", "unknown option 'config'; "),
        ("[run]\nbatch = 1", "unknown option 'run'; "),
        ("batch = 'many'", "batch must be a whole number, not 'many'"),
        ("batch = 1.5", "batch must be a whole number, not 1.5"),
        ("batch = true", "batch must be a whole number, not True"),
        ("batch = [1]", r"batch must be a whole number, not \[1\]"),
        ("events = 1", "events must be true or false, not 1"),
        ("connect_timeout = false", "connect_timeout must be a number, not False"),
        ("queue = [1]", r"queue must be text, or a list of texts, not \[1\]"),
        ("http = 9464", "http must be text, not 9464"),
        ("overflow = 'drop'", "overflow must be 'hold' or 'trim', not 'drop'"),
        ("overflow = ['hold']", r"overflow must be 'hold' or 'trim', not \['hold'\]"),
        ("url = ['redis://:hush@host']", "url must be text, not list"),
        ("event_sink = {webhook = {secret = 'hush'}}", "event_sink must be text, or a list of texts, not dict"),
        ("batch = 1\nurl =\n", "invalid TOML: .*line 2"),
        ("batch = 1\nbatch = 2", "invalid TOML: "),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_file_and_the_option(file, text, problem):
    path = file(text)
    with pytest.raises(ConfigError, match=problem) as error:
        read(path, KNOWN)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "hush" not in str(error.value)


def test_a_file_that_is_not_there_or_is_no_text_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^cannot read the configuration file '.*gone': No such file or directory$"):
        read(str(tmp_path / "gone"), KNOWN)
    with pytest.raises(ConfigError, match="Is a directory"):
        read(str(tmp_path), KNOWN)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="binary: invalid TOML"):
        read(str(tmp_path / "binary"), KNOWN)


@pytest.mark.parametrize("by", ["option", "variable"])
def test_an_error_of_the_file_ends_the_command_with_code_2_and_one_line(file, by):
    path = file(BASE + "bacth = 1\n")
    done = promoter("run", "--config", path) if by == "option" else promoter("run", PROMOTER_CONFIG=path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: {path}: unknown option 'bacth'; did you mean 'batch'?\n"


def test_a_value_out_of_range_ends_it_with_code_2(file):
    done = promoter("run", "--config", file(BASE + "batch = 0\n"))
    assert done.returncode == 2
    assert done.stderr.endswith("promote_batch must be a whole number from 1 to 10000, not 0\n")


def test_an_empty_list_is_an_option_that_is_left_out(file):
    path = file('url = "memory://"\nqueue = []\nmetrics = []\n')
    assert read(path, KNOWN) == {"url": "memory://"}
    done = promoter("run", "--config", path)
    assert done.returncode == 2
    assert "Missing option '--queue'" in done.stderr


def test_a_run_is_configured_by_a_file_alone_without_typer(file):
    path = file(BASE + 'until_idle = true\nlog_format = "json"\n')
    code = (
        "import sys; sys.argv[0] = 'promoter'; from promoter_core.cli import main; main(); "
        "assert not {'typer', 'rich', 'difflib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, "run", "--config", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"message": "promoting \'emails\' of memory://"' in done.stderr


def test_without_a_file_its_reader_imports_nothing():
    code = (
        "import sys; sys.argv = ['promoter', 'run', '--url', 'memory://', '-q', 'a', '--until-idle']; "
        "from promoter_core.cli import main; main(); assert 'tomllib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----- --print-config -----


def test_the_options_in_force_are_printed_as_a_file_with_where_each_is_from(file):
    path = file(BASE + 'batch = 1\nholder_id = "a \\"b\\" \\u007f é"\n')
    done = promoter("run", "--config", path, "--print-config", "--no-events", PROMOTER_MAX_TICK_MS="7")
    assert done.returncode == 0, done.stderr
    found = tomllib.loads(done.stdout)
    assert {"batch": 1, "events": False, "max_tick_ms": 7, "holder_id": 'a "b" \x7f é'}.items() <= found.items()
    assert set(found) | {"layout", "metrics", "event_sink", "http", "page"} == set(KNOWN) - set(NOT_IN_A_FILE)
    source = {line.split(" = ")[0]: line.rpartition("  # ")[2] for line in done.stdout.splitlines()}
    assert [source[name] for name in ("events", "max_tick_ms", "batch", "overflow")] == [
        "command line",
        "environment",
        path,
        "default",
    ]
    again = promoter("run", "--config", file(done.stdout), "--print-config")
    assert tomllib.loads(again.stdout) == found


def test_no_secret_is_printed(file):
    path = file(
        'url = "redis+sentinel://app:hush1@h/s?sentinel_password=hush2&db=1"\nqueue = "emails"\n'
        'event_sink = ["webhook:url=http://u:hush3@h/hush4,secret=hush5,secret_env=NAME"]\n'
        'metrics = ["a:secret=hush6,hush7", "b:https://u:hush8@h/x=y", "c"]\n'
    )
    done = promoter("run", "--config", path, "--print-config")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout
    found = tomllib.loads(done.stdout)
    assert found["url"] == "redis+sentinel://app:***@h/s?sentinel_password=***&db=1"
    assert found["event_sink"] == ["webhook:url=***,secret=***,secret_env=NAME"]
    assert found["metrics"] == ["a:secret=***,***", "b:***", "c"]


def test_what_cannot_work_is_said_in_the_place_of_the_options(file):
    done = promoter("run", "--config", file(BASE + "lock_ttl_ms = 1\n"), "--print-config")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lock_ttl_ms must be" in done.stderr


# ----- with typer and without it -----

LINES = {
    "queue": ['"f"', '["f", "g"]', "[]"],
    "batch": ["5", "0", "-1", '"5"'],
    "connect_timeout": ["1", "0.5", "true"],
    "overflow": ['"trim"', '"TRIM"'],
    "events": ["false", "0"],
    "until_idle": ["true"],
    "metrics": ['["logging"]', '"a b"'],
    "holder_id": ['"é"', '""'],
    "log_format": ['"json"'],
}
WORDS = [["-q", "a"], ["--batch", "9"], ["--no-events"], ["--overflow", "hold"], ["--metrics", "x"], ["--until-idle"]]
VARIABLES = {"PROMOTER_QUEUE": "e f", "PROMOTER_BATCH": "7", "PROMOTER_EVENTS": "1", "PROMOTER_METRICS": "m n"}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "promoter.toml"


@settings(max_examples=300)
@given(
    lines=st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in LINES.items()}),
    words=st.lists(st.sampled_from(WORDS), max_size=3, unique_by=tuple),
    variables=st.sets(st.sampled_from(sorted(VARIABLES))),
    by_variable=st.booleans(),
)
def test_a_file_that_is_read_without_typer_is_read_as_typer_does(path, lines, words, variables, by_variable):
    path.write_text(BASE.splitlines()[0] + "\n" + "".join(f"{name} = {text}\n" for name, text in lines.items()))
    environ = {name: VARIABLES[name] for name in variables} | ({"PROMOTER_CONFIG": str(path)} if by_variable else {})
    words = [*itertools.chain(*words), *([] if by_variable else ["--config", str(path)])]
    found = parse_plain(run, words, environ)
    if found is not None:
        with mock.patch.dict(os.environ, environ):
            expected = RUN.main(list(words), standalone_mode=False, prog_name="run")
        assert found == expected
        assert list(map(type, found.values())) == list(map(type, expected.values()))


# ----- documentation -----


def test_the_page_of_the_configuration_is_what_the_options_say():
    run = processes.run([sys.executable, ROOT / "docs/reference/render_configuration.py", "--check"], check=False)
    assert run.returncode == 0


@pytest.mark.parametrize("name", ["examples/deploy/promoter.toml", "how-to/deploy/configure.md"])
def test_files_of_the_documentation_are_valid(name, file):
    text = (ROOT / "docs" / name).read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", text, re.S) if name.endswith(".md") else [text]
    done = promoter("run", "--config", file(text), "--print-config")
    assert done.returncode == 0, done.stderr
    specs = {r.spec.name: r.spec.options for r in Registry().all() if isinstance(r.spec, SinkSpec)}
    for sink in read(file(text), KNOWN)["event_sink"]:
        sink_options.split("event sink", sink, sink.partition(":")[2], specs[sink.partition(":")[0]])
