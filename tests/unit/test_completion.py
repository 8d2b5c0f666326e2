"""The commands that completion offers without the registry are the registry's, and the scripts do what typer's do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module, metadata
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import typer
from typer import _completion_classes as by_typer

from promoter_core import Registry
from promoter_core.cli import completion, completion_scripts, plugin_commands
from promoter_core.cli.app import build
from promoter_core.cli.plugin_commands import OWN
from tests.typed import untyped

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["promoter"]
TEXT = "[console_scripts]\npromoter = promoter_core.cli:main\n\n[promoter]\n# ours\n" + "".join(
    f"{name} = {module}\n" for name, module in DECLARED.items()
)
VAC = "[promoter]\nvac = vac\n"

# ----- commands of plugins -----


def test_the_commands_of_each_plugin_of_ours_are_those_that_it_registers():
    assert set(OWN) == set(DECLARED.values())
    for module, command in OWN.items():
        register = getattr(import_module(module), "promoter_register_commands", tuple)
        assert " ".join(spec.name for spec in register()) == command


def distribution(folder, info, entry_points=None):
    """Metadata in a folder, by which `importlib.metadata` finds a distribution there."""
    at = folder / info
    at.mkdir(parents=True)
    name = info.partition("-")[0]
    (at / ("PKG-INFO" if info == "EGG-INFO" else "METADATA")).write_text(f"Name: {name}\nVersion: 1\n")
    if entry_points is not None:
        (at / "entry_points.txt").write_text(entry_points)


@pytest.fixture(autouse=True)
def finder_of_the_standard_library(monkeypatch):
    """Whichever packages were imported: the backport of importlib.metadata takes this method away."""
    find = staticmethod(metadata.MetadataPathFinder.find_distributions)
    monkeypatch.setattr(PathFinder, "find_distributions", find, raising=False)


@pytest.fixture
def listed(monkeypatch):
    """The commands that are told, and those of the entry points, with these folders alone on the path."""

    def told_and_listed(*folders):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", list(map(str, folders)))
            patch.setattr(sys, "meta_path", [PathFinder])
            declared = [entry.value for entry in metadata.entry_points(group="promoter")]
            return plugin_commands.own_commands(), sorted(filter(None, (OWN.get(d, d) for d in declared)))

    return told_and_listed


def test_the_plugins_of_promoter_alone_are_told_without_the_registry(tmp_path, listed):
    distribution(tmp_path, "promoter_core-1.dist-info", TEXT)
    distribution(tmp_path, "other-1.dist-info", "[console_scripts]\npromoter-x = other:main\n")
    distribution(tmp_path, "none-1.dist-info")
    (tmp_path / "single-1.egg-info").write_text("Name: single\nVersion: 1\n")
    told, declared = listed(tmp_path / "missing", tmp_path)
    assert told == declared == ["bench", "demo"]


def test_an_older_distribution_offers_the_commands_that_it_declares(tmp_path, listed):
    distribution(tmp_path, "promoter_core-1.dist-info", TEXT.replace("bench = promoter_bench.plugin\n", ""))
    told, declared = listed(tmp_path)
    assert told == declared == ["demo"]


def test_the_folder_of_the_process_is_looked_at_too(tmp_path, listed, monkeypatch):
    distribution(tmp_path, "promoter_core-1.dist-info", TEXT)
    monkeypatch.chdir(tmp_path)
    told, declared = listed("")
    assert told == declared == ["bench", "demo"]


def third_party(folder):
    distribution(folder, "vac-1.dist-info", VAC)


def by_setup_py(folder):
    distribution(folder, "vac.egg-info", VAC)


def as_an_egg(folder):
    distribution(folder / "vac.egg", "EGG-INFO", VAC)
    return folder / "vac.egg"


def in_a_zip_file(folder):
    with zipfile.ZipFile(folder / "more.zip", "w") as file:
        file.writestr("vac-1.dist-info/METADATA", "Name: vac\nVersion: 1\n")
        file.writestr("vac-1.dist-info/entry_points.txt", VAC)
    return folder / "more.zip"


@pytest.mark.parametrize("more", [third_party, by_setup_py, as_an_egg, in_a_zip_file])
def test_a_plugin_of_a_third_party_is_left_to_the_registry(tmp_path, listed, more):
    distribution(tmp_path, "promoter_core-1.dist-info", TEXT)
    told, declared = listed(tmp_path, more(tmp_path) or tmp_path / "missing")
    assert told is None
    assert declared == ["bench", "demo", "vac"]


@pytest.mark.parametrize("entry_points", [None, TEXT])
@pytest.mark.parametrize("info", ["promoter_core-2.dist-info", "promoter.core-2.dist-info", "Promoter_Core.egg-info"])
def test_a_second_distribution_of_promoter_is_left_to_the_registry(tmp_path, listed, info, entry_points):
    distribution(tmp_path / "a", info, entry_points)
    distribution(tmp_path / "b", "promoter_core-1.dist-info", TEXT)
    assert listed(tmp_path / "a", tmp_path / "b")[0] is None


def test_without_a_distribution_the_registry_is_asked(tmp_path, listed):
    assert listed(tmp_path) == (None, [])


def test_a_line_that_is_no_entry_point_is_left_to_the_registry(tmp_path, monkeypatch):
    distribution(tmp_path, "promoter_core-1.dist-info", TEXT + "[promoter]\nnonsense\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    assert plugin_commands.own_commands() is None


def test_a_finder_with_distributions_of_its_own_is_left_to_the_registry(tmp_path, monkeypatch):
    class Finder:
        @staticmethod
        def find_distributions(context):
            return []

    distribution(tmp_path, "promoter_core-1.dist-info", TEXT)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [Finder, PathFinder])
    assert plugin_commands.own_commands() is None


# ----- scripts -----

SCRIPTS = {"bash": completion_scripts.BASH, "zsh": completion_scripts.ZSH, "fish": completion_scripts.FISH}
CLASSES = {"bash": by_typer.BashComplete, "zsh": by_typer.ZshComplete, "fish": by_typer.FishComplete}


def typers(shell):
    command = untyped(typer.main.get_command(build(Registry)))
    made = untyped(CLASSES[shell])(command, {}, "promoter", completion.VARIABLE)
    return made.source_template % made.source_vars()


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_sets_the_variables_that_typer_reads(shell):
    def named(text):
        return set(re.findall(r"_TYPER_\w+|COMP_\w+|_PROMOTER_COMPLETE|complete_\w+|(?:get|is)-args", text))

    assert named(SCRIPTS[shell]) == named(typers(shell))


DRIVERS = {
    "bash": """
source "$1"
complete -p promoter
for line in "promoter d" "promoter run --lo" "promoter run --log-format " "promoter demo --j" "promoter run x"; do
    read -ra COMP_WORDS <<< "$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=(old)
    IFS=o  # whoever completes may have set it
    _promoter_completion promoter
    unset IFS
    printf '%s\\n' "$line: ${#COMPREPLY[@]}" "${COMPREPLY[@]}"
done
""",
    "zsh": """
compdef() { print -r compdef "$@" }
_arguments() { print -r -- "$@" }
_files() { print files }
source "$1"
words=(promoter run --lo) CURRENT=3 && _promoter_completion
words=(promoter sch) CURRENT=2 && _promoter_completion
words=(promoter nope "") CURRENT=3 && _promoter_completion
""",
    "fish": """
source $argv[1]
complete -C "promoter sch"
complete -C "promoter run --config /et"
""",
}
FLAGS = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["-N"]}
EXPECTED = {"bash": "promoter d: 3\ndoctor\ndead-letters\ndemo\n", "zsh": '(("schedule":', "fish": "schedule\t"}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_completes_the_same_with_the_script_as_with_typers(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "bin" / "promoter"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom promoter_core.cli import main\nmain()\n")
    program.chmod(0o755)
    (tmp_path / "driver").write_text(DRIVERS[shell])
    env = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "HOME": str(tmp_path),
    }
    seen = []
    for number, text in enumerate([SCRIPTS[shell], typers(shell)]):
        (tmp_path / f"script-{number}").write_text(text)
        command = [shell, *FLAGS[shell], str(tmp_path / "driver"), str(tmp_path / f"script-{number}")]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.stderr == ""
        seen.append(done.stdout)
    assert EXPECTED[shell] in seen[0]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("said", "given"), [("4 4", True), ("5 2", True), ("4 3", False), ("3 2", False), ("", False)])
def test_a_bash_that_is_too_old_is_left_to_typer(said, given, tmp_path, monkeypatch):
    (tmp_path / "bash").write_text(f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "bash").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (completion_scripts.script("bash") == completion_scripts.BASH) is given


def test_without_bash_its_script_is_left_to_typer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert completion_scripts.script("bash") is None
