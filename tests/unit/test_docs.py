"""The docs say what is so: names, defaults and arguments are the code's, and every example runs."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from promoter_core import PromoterSettings
from promoter_core.registry import KINDS
from promoter_core.spi import hooks

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("spec", [hooks.BackendSpec, hooks.SinkSpec, hooks.CommandSpec])
def test_every_spec_is_documented_with_its_fields(spec):
    arguments = ", ".join(
        f.name if f.default is dataclasses.MISSING else f"{f.name}={'()' if f.default == () else chr(34) * 2}"
        for f in dataclasses.fields(spec)
    )
    assert f"`{spec.__name__}({arguments})`" in page("reference/hooks.md")


def test_every_setting_is_documented_with_its_default_and_range():
    rows = {
        m[1]: m[0]
        for m in re.finditer(r"^\| `(\w+)` \|.*$", page("reference/settings.md").split("## Backend URLs")[0], re.M)
    }
    assert [f.name for f in dataclasses.fields(PromoterSettings)] == list(rows)
    for f in dataclasses.fields(PromoterSettings):
        if "range" in f.metadata:
            low, high = f.metadata["range"]
            shown = "2⁵³" if high == 2**53 else f"{high:,}"
            assert f"| {f.default:,} | {low:,} to {shown} |" in rows[f.name]


def test_every_option_of_run_is_documented():
    text = page("reference/command-line.md") + page("reference/settings.md")
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
        "K": [str(p.relative_to(ROOT)) for p in (ROOT / "promoter_core/testing/contract").glob("*.py")],
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
    from promoter_core import Registry
    from promoter_core.cli.app import build

    app = build(Registry())
    names = [c.name for c in app.registered_commands] + [g.name for g in app.registered_groups]
    for name in names:
        assert f"`promoter {name} " in page("reference/command-line.md"), name


def test_links_between_pages_lead_somewhere():
    for source in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", source.read_text()):
            assert (source.parent / target).exists(), f"{source.name} → {target}"


def test_files_named_in_follow_one_job_exist():
    text = page("explanation/follow-one-job.md")
    for name in re.findall(r"`((?:promoter_core|backends)/[\w/.]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_map_in_the_cores_docstring_names_files_that_exist():
    import promoter_core

    for name in re.findall(r"(\w+\.py)", promoter_core.__doc__):
        assert (ROOT / "promoter_core" / name).exists(), name


def test_an_obligation_that_the_contracts_do_not_state_cannot_be_demanded():
    from promoter_core.testing.conformance.obligations import obliges

    obliges("Backend.cancel", "its id is free again", True)
    with pytest.raises(LookupError, match="does not say"):
        obliges("Backend.cancel", "it makes coffee", True)
    with pytest.raises(AssertionError, match=r"broken obligation of Backend.cancel: “its id is free again”\n  seen: 7"):
        obliges("Backend.cancel", "its id is free again", False, seen=7)


def examples():
    for source in PAGES:
        text = source.read_text()
        for match in re.finditer(r"```python\n(.*?)```\n+(?:It prints |prints )?(.*?)\n(?:\n|$)", text, re.S):
            code, after = match[1], match[2].replace("\n", " ")
            if "import" not in code or "redis.Redis()" in code:
                continue  # a fragment; or a consumer that waits for a server
            prints = text[match.end(1) + 3 :].lstrip().startswith(("It prints ", "prints "))
            yield pytest.param(
                code,
                re.findall(r"`([^`]+)`", after.split(". ")[0]) if prints else [],
                id=f"{source.stem}:{text[: match.start()].count(chr(10))}",
            )


@pytest.mark.server
@pytest.mark.parametrize(("code", "output"), list(examples()))
def test_an_example_runs_and_prints_what_it_says(code, output, valkey, tmp_path):
    code = code.replace("redis://localhost:6379", valkey.url).replace(").run()", ").run(until_idle=True)")
    code = code.replace("embedded:///tmp/first-queue", "memory://")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert run.returncode == 0, run.stderr
    if "memory://" not in code or "first-queue" not in code:
        for line in output:
            if "first_queue" not in line and "welcome" not in line:
                assert line in run.stdout
