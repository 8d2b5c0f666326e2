"""The docs say what is so: names, defaults and arguments are the code's, and every example runs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import os
import re
import shlex
import sys
import tomllib
import typing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from promoter_core import PromoterSettings, Registry, spi
from promoter_core.cli.app import build
from promoter_core.engine import actions
from promoter_core.engine.machine import State
from promoter_core.registry import KINDS
from promoter_core.spi import hooks
from promoter_core.testing.conformance import ContractBase
from promoter_core.testing.forward import OPTIONAL
from tests import processes
from tests.servers import free_port
from tests.typed import present, untyped

ROOT = Path(__file__).parents[2]
TOPS = ("promoter_core", "backends", "plugins", "tests", "docs", "benchmarks")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def page(name):
    return (ROOT / "docs" / name).read_text()


def test_every_hook_is_documented_with_its_exact_arguments():
    text = page("reference/hooks.md")
    specs = {name: f for name, f in vars(hooks).items() if name.startswith("promoter_")}
    assert {hook for hook, _ in KINDS.values()} == set(specs)
    for name, function in specs.items():
        assert f"`{name}{inspect.signature(function).replace(return_annotation=inspect.Signature.empty)}`" in text
        assert f"def {name}" in function.__doc__, "its docstring carries an example"


@pytest.mark.parametrize(
    "spec",
    [hooks.BackendSpec, hooks.SinkSpec, hooks.SerializerSpec, hooks.LayoutSpec, hooks.CommandSpec, hooks.PageSpec],
)
def test_every_spec_is_documented_with_its_fields(spec):
    arguments = ", ".join(
        f.name if f.default is dataclasses.MISSING else f"{f.name}={'()' if f.default == () else chr(34) * 2}"
        for f in dataclasses.fields(spec)
    )
    assert f"`{spec.__name__}({arguments})`" in page("reference/hooks.md")


def test_the_spi_page_says_which_values_take_keywords_only():
    text = page("reference/spi.md")
    for name, value in vars(spi).items():
        is_shown = name in spi.__all__ and isinstance(value, type) and dataclasses.is_dataclass(value)
        if is_shown and (fields := dataclasses.fields(value)):
            shown = re.search(rf"^### `{name}(?:\(.*\))?`\n.*?^```\n(.*?)^```", text, re.M | re.S)
            assert shown, name
            assert shown[1].startswith("*\n") is fields[0].kw_only, name


def test_every_setting_is_documented_with_its_default_and_range():
    settings = page("reference/settings.md").split("\n## ")[0]
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\w+)` \|.*$", settings, re.M)}
    assert [f.name for f in dataclasses.fields(PromoterSettings)] == list(rows)
    for f in dataclasses.fields(PromoterSettings):
        if "range" in f.metadata:
            low, high = f.metadata["range"]
            shown = "2⁵³" if high == 2**53 else f"{high:,}"
            assert f"| {f.default:,} | {low:,} to {shown} |" in rows[f.name]


def test_every_option_of_run_is_documented():
    text = page("reference/command-line.md") + page("reference/settings.md") + page("reference/configuration.md")
    from promoter_core.cli import run

    for name, parameter in inspect.signature(run.run).parameters.items():
        option = (
            next((p for p in parameter.annotation.__metadata__[0].param_decls or ()), f"--{name.replace('_', '-')}")
            if hasattr(parameter.annotation, "__metadata__")
            else f"--{name.replace('_', '-')}"
        )
        assert option.split("/")[0] in text, option


def test_every_pinned_behaviour_names_a_test_that_exists():
    folders = {
        "M": ["tests/unit/test_machine.py", "tests/unit/test_machine_ends.py"],
        "P": ["tests/unit/test_promoter.py", "tests/unit/test_promoter_faults.py"],
        "R": ["tests/unit/test_replies.py"],
        "S": ["tests/server/test_behaviours.py", "tests/server/test_running.py"],
        "K": [str(p.relative_to(ROOT)) for p in (ROOT / "promoter_core/testing/conformance").glob("*.py")],
    }
    rows = re.findall(r"^\| .* \| ([MPRSK]) `(test_\w+)` \|$", page("reference/behaviours.md"), re.M)
    assert len(rows) >= 23
    for where, name in rows:
        assert any(f"def {name}(" in (ROOT / f).read_text() for f in folders[where]), name


def test_every_fault_in_the_reliability_table_names_a_test_that_exists():
    rows = re.findall(r"\| `(test_\w+\.py)::(test_\w+)` \|$", page("explanation/reliability.md"), re.M)
    assert len(rows) >= 40
    for file, name in rows:
        assert f"def {name}(" in (ROOT / "tests/server" / file).read_text(), name


def test_every_option_of_a_url_is_documented():
    from promoter_resp.url_options import KNOWN

    for option in KNOWN:
        assert f"`{option}`" in page("reference/settings.md")


def test_every_command_is_documented():
    group = typer.main.get_group(build(Registry))
    names = group.list_commands(untyped(None))
    assert len(names) >= 9
    for name in names:
        assert f"`promoter {name} " in page("reference/command-line.md"), name


def test_every_scheme_and_every_sink_is_documented():
    for registered in Registry().all():
        if registered.source.startswith("promoter-core "):
            for scheme in getattr(registered.spec, "schemes", ()):
                for name in ("README.md", "docs/reference/settings.md"):
                    assert f"`{scheme}://" in (ROOT / name).read_text(), f"{name}: {scheme}"
            if registered.kind == "serializer":
                assert f"| `{registered.spec.name}` |" in page("how-to/serialize-data.md"), registered.spec.name
            if isinstance(registered.spec, hooks.LayoutSpec) and registered.spec.name != "chasqui":
                row = rf"^\| `{registered.spec.name}` \| (.*?) \| .* \|$"
                options = re.search(row, page("reference/wire-format.md"), re.M)
                assert options, registered.spec.name
                assert set(registered.spec.options) <= set(re.findall(r"`(\w+)`", options[1]))
            if "sink" in registered.kind:
                assert f"`{registered.spec.name}`" in page("reference/command-line.md"), registered.spec.name


def test_every_http_page_is_documented():
    paths = re.findall(r'web\.get\("(/\w+)"', (ROOT / "promoter_core/web/server.py").read_text())
    assert len(paths) >= 4
    for path in paths:
        assert f"| `{path}` |" in page("how-to/monitor/health.md"), path


def test_links_between_pages_lead_somewhere():
    for source in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", source.read_text()):
            assert (source.parent / target).exists(), f"{source.name} → {target}"


def anchors(text):
    """Those that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_to_a_heading_lead_to_one():
    for source in PAGES:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", source.read_text()):
            there = (source.parent / target) if target else source
            assert anchor in anchors(there.read_text()), f"{source.name} → {target}#{anchor}"


def test_paths_that_the_docs_name_exist():
    """From the root or from a package of the wheel; `NAME` in them stands for the reader's own."""
    packages = {path.name: path for path in ROOT.glob("*/promoter_*/")}
    folders = {path.name: path for path in ROOT.iterdir() if path.is_dir()} | packages
    for source in PAGES:
        for top, rest in re.findall(rf"`({'|'.join(map(re.escape, folders))})/([\w/.-]*)`", source.read_text()):
            assert "NAME" in rest or (folders[top] / rest).exists(), f"{source.name}: {top}/{rest}"


def test_files_that_the_docs_name_exist():
    names = {path.name for top in TOPS for path in (ROOT / top).rglob("*.*")}
    for source in PAGES:
        for name in re.findall(r"\b(\w+\.(?:py|lua))\b", source.read_text()):
            assert "NAME" in name or name in names | {"consume.py"}, f"{source.name}: {name}"


def test_the_walk_and_the_tables_of_the_architecture_name_files_that_exist():
    walk = re.findall(r"\*\*`([^`]+)`\*\*", page("explanation/follow-one-job.md"))
    assert len(walk) >= 12
    for name in walk:
        assert (ROOT / name).is_file(), name
    paths = re.findall(r"`([\w.]+/[\w./]*)`", page("explanation/architecture.md").split("Paths begin in")[1])
    assert len(paths) >= 50
    for name in paths:
        assert "NAME" in name or any((ROOT / top / name).exists() for top in ("", "promoter_core")), name


def test_the_maps_in_docstrings_name_files_that_exist():
    """The docstring of a package of the wheel says what its files are."""
    inits = [path for top in TOPS[:3] for path in (ROOT / top).rglob("__init__.py")]
    assert len(inits) > 20
    for init in inits:
        for name in re.findall(r"[\w/]+\.(?:py|lua|sh|md)\b", ast.get_docstring(ast.parse(init.read_text())) or ""):
            assert any((folder / name).exists() for folder in (init.parent, ROOT)), f"{init.relative_to(ROOT)}: {name}"


def test_the_picture_of_the_architecture_shows_the_layers():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    layers = [re.sub(r"\(\w+\) \| ", "", layer) for layer in contract["layers"] if layer != "__main__"]  # (to come)
    picture = page("explanation/architecture.md").split("```")[1].replace("│", "|")
    shown = [present(re.match(r"[ ═]*(.+?)(?:  | ═)", line))[1] for line in picture.strip("\n").splitlines()]
    assert shown == [*layers[:3], "promoter_core", *layers[3:-1], f"promoter_core.{layers[-1]}"]


def test_every_optional_ability_is_where_the_architecture_says():
    """Each file has a namesake in the kit; wrappers forward each ability, and the page of the SPI has it."""
    files = {path.stem for path in (ROOT / "promoter_core/spi/optional").glob("*.py")} - {"__init__"}
    assert files <= {path.stem for path in (ROOT / "promoter_core/testing/conformance").glob("*.py")}
    abilities = [
        name
        for file in files
        for name, cls in vars(import_module(f"promoter_core.spi.optional.{file}")).items()
        if re.match(r"Separate|\w+Support$", name) and cls.__module__.endswith(f".{file}")
    ]
    assert {cls.__name__ for cls in OPTIONAL} == set(abilities)
    for name in abilities:
        assert f"\n### `{name}`\n" in page("reference/spi.md"), name


def test_the_tables_of_the_automata_name_every_state_and_action():
    text = page("reference/state-machine.md")
    machine, leadership = text.split("## Machine")[1].split("## Leadership")
    cells = [cell for row in re.findall(r"^\| ([^|]*) \|.*\| ([^|]*) \|$", machine, re.M) for cell in row]
    assert set(re.findall(r"\b[A-Z]{4,}\b", " ".join(cells))) == set(State.__members__)
    for action in typing.get_args(actions.Action):
        assert f"`{action.__name__}" in machine + leadership, action


def test_every_fixture_of_the_kit_is_documented():
    fixtures = {name for name in vars(ContractBase) if not name.startswith("_")} - {"kit", "pytestmark"}
    kit = page("how-to/write-a-backend.md").split("## 3.")[1]
    assert set(re.findall(r"^\| `(\w+)` \| [^|]* \| [^|]* \|$", kit, re.M)) == fixtures


def commands():
    """Each command line of `promoter` in the docs' blocks of shell."""
    for source in PAGES:
        for block in re.findall(r"```\n(.*?)```", source.read_text(), re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if found := re.match(r"(?:\$ |opentelemetry-instrument -- )?promoter (.*)", line):
                    yield pytest.param(shlex.split(found[1], comments=True), id=f"{source.stem}:{found[1]:.40}")


@pytest.mark.parametrize("words", list(commands()))
def test_a_command_in_the_docs_has_the_options_that_it_is_given(words):
    registry = Registry()
    command: Any = typer.main.get_group(build(lambda: registry))
    while hasattr(command, "resolve_command") and words and not words[0].startswith("-"):  # of a group of commands
        _, command, words = command.resolve_command(untyped(None), words)
    assert command
    options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    sinks = {"--metrics": "metrics sink", "--event-sink": "event sink"}
    specs = {(r.kind, r.spec.name): r.spec.options for r in registry.all() if isinstance(r.spec, hooks.SinkSpec)}
    for option, value in itertools.pairwise([*words, ""]):
        assert not re.match(r"-[^\d]", option) or option.partition("=")[0] in options, option
        if option in sinks:
            name, _, given = value.partition(":")
            keys = {pair.partition("=")[0] for pair in given.split(",") if pair}
            assert keys <= set(specs[sinks[option], name]), value


def test_modules_and_targets_that_the_docs_run_exist():
    makefile = (ROOT / "Makefile").read_text()
    for source in PAGES:
        text = source.read_text()
        for name in re.findall(r"python -m ([\w.]+)", text):
            assert find_spec(name), f"{source.name}: {name}"
        for name in re.findall(r"^(?:`)?make ([\w-]+)|`make ([\w-]+)", text, re.M):
            assert f"\n{''.join(name)}:" in makefile, f"{source.name}: {name}"


RETIRED = re.compile(
    r"quarantin|ManyQueues|Diagnosable|Exposable|TroubleReports|SinkTrouble|\bSignals\b|\bWhat\.|seen_age_s|patterns=|"
    r"PromoterSettings\(queue|contracts\.md|render_contracts|\bon_sink\b|member\.py|keys\.py|watcher\.py|ticker\.py|"
    r"promoter_core[./](?:contracts|model|queue|machine|promoter|fleet|signals|hookspecs|options|envelope|errors|sinks)\b",
    re.IGNORECASE,
)


def test_the_docs_use_no_name_that_is_gone():
    for source in [*PAGES, *(ROOT / "docs").rglob("*.yml"), *(ROOT / "docs").rglob("*.json")]:
        assert not (found := RETIRED.search(source.read_text())), f"{source.name}: {found[0]}"


PUBLIC = ["", ".spi", ".sync", ".monitor", ".web", ".testing", ".testing.conformance"]


def test_examples_import_public_modules_only():
    for source in PAGES:
        own = [".engine.machine"] if source.stem == "state-machine" else []
        for name in re.findall(r"^\s*(?:from|import) promoter_core([\w.]*)", source.read_text(), re.M):
            assert name in PUBLIC + own, f"{source.name}: promoter_core{name}"


def test_an_obligation_that_the_contracts_do_not_state_cannot_be_demanded():
    from promoter_core.testing.conformance.obligations import obliges

    obliges("Backend.cancel", "its id is free again", True)
    with pytest.raises(LookupError, match="does not say"):
        obliges("Backend.cancel", "it makes coffee", True)
    with pytest.raises(AssertionError, match=r"broken obligation of Backend.cancel: “its id is free again”\n  seen: 7"):
        obliges("Backend.cancel", "its id is free again", False, seen=7)


APPLICATIONS = [
    *(f"how-to/use-{name}" for name in ("with-fastapi", "with-django", "with-flask", "in-a-script")),
    "tutorial/own-consumer",
    "tutorial/taskiq-application",
]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_page_on_an_application_quotes_it_word_for_word(name):
    text = page(f"{name}.md")
    (file,) = set(re.findall(r"\(\.\./examples/(apps/\w+\.py)\)", text))
    code = (ROOT / "docs/examples" / file).read_text()
    quoted = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "import " not in block]
    of_tests = [block for block in quoted if "self." in block or "User.objects.iterator" in block]
    assert len(quoted) > len(of_tests)
    for block in quoted:
        assert block in code or block in of_tests, block


def examples():
    for source in PAGES:
        text = source.read_text()
        for match in re.finditer(r"```python\n(.*?)```\n+(?:It prints |prints )?(.*?)\n(?:\n|$)", text, re.S):
            code, after = match[1], match[2].replace("\n", " ")
            if "import" not in code or "redis.Redis()" in code:
                continue  # a fragment; or the tutorial's consumer, which has a test below
            prints = text[match.end(1) + 3 :].lstrip().startswith(("It prints ", "prints "))
            yield pytest.param(
                code,
                re.findall(r"`([^`]+)`", after.split(". ")[0]) if prints else [],
                id=f"{source.stem}:{text[: match.start()].count(chr(10))}",
            )


# The packages of docs/examples can be imported.
PATH = f"import sys; sys.path[1:1] = {[str(path) for path in sorted((ROOT / 'docs/examples').glob('*/'))]!r}\n"


def execute(code, **options):
    command = [sys.executable, "-W", "error", "-c", PATH + code]
    return processes.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.server
@pytest.mark.parametrize(("code", "output"), list(examples()))
def test_an_example_runs_and_prints_what_it_says(code, output, valkey, tmp_path):
    if "import psycopg" in code:
        pytest.importorskip("psycopg")
    valkey.ask("FLUSHALL")  # it prints what a new server answers
    code = code.replace("redis://localhost:6379", valkey.url).replace(").run()", ").run(until_idle=True)")
    code = code.replace("embedded:///tmp/first-queue", "memory://").replace(
        "127.0.0.1:9464", f"127.0.0.1:{free_port()}"
    )
    run = execute(code, cwd=tmp_path)
    if os.environ.get("PROMOTER_LOWEST") and (missing := re.search(r"No module named '((?!promoter)\w+)", run.stderr)):
        pytest.skip(f"{missing[1]} is not installed")  # of the group dev
    assert run.returncode == 0, run.stderr
    if "memory://" not in code or "first-queue" not in code:
        for line in output:
            if "first_queue" not in line and "welcome" not in line:
                assert line in run.stdout
