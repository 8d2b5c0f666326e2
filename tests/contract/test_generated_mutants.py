"""Every small change of the memory backend's code fails the kit, or is listed with the reason why no test can tell.

Here each thirty-sixth of them runs, in the whole matrix each twelfth; `make mutants` runs all.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.mutants.generated import loading
from tests.contract.mutants.generated.mutate import mutations
from tests.servers import whole_matrix

ROOT = Path(__file__).parents[2]


def generated(*args):
    command = [sys.executable, "-m", "tests.contract.mutants.generated", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_there_are_enough_of_them_and_each_has_a_name():
    names = [mutation.name for mutation in loading.all_mutations()]
    assert len(names) > 500
    assert len(names) == len(set(names))


def test_every_mutant_that_is_called_equivalent_is_one_of_today():
    assert set(loading.equivalent()) - {mutation.name for mutation in loading.all_mutations()} == set()


@pytest.mark.timeout(300)
def test_a_sample_is_killed_and_a_survivor_that_is_not_listed_is_named(tmp_path):
    name = "backend.MemoryBackend.join_group: `if new:` → `if True:`"
    listed = loading.EQUIVALENT.read_text()
    assert name in listed
    (tmp_path / "equivalent.toml").write_text(listed.replace(name, "nothing"))
    every = "12" if whole_matrix() else "36"
    done = generated("--every", every, "--equivalent", str(tmp_path / "equivalent.toml"), name)
    *problems, closing = done.stdout.strip().splitlines()
    assert problems == [f"survives: {name}"], done.stdout + done.stderr
    assert " killed, 1 survive, of which 0 are equivalent" in closing
    assert done.returncode == 1


def changes(code):
    return [mutation.name for mutation in mutations(code, "m")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(a):\n    return a < 1", ["m.f: `a < 1` → `a <= 1`", "m.f: `a < 1` → `a >= 1`", "m.f: `1` → `2`"]),
        ("def f(a):\n    a.b()", ["m.f: without `a.b()`"]),
        ("def f(a, b):\n    return g(a, b, c=a)", ["m.f: `g(a, b, c=a)` → `g(b, a, c=a)`", "m.f: `g(…)` without `c=`"]),
        ("def f(a):\n    if not a:\n        return True", ["m.f: `if not a:` → `if False:`", "m.f: `True` → `False`"]),
    ],
)
def test_code_is_changed_in_each_way(code, expected):
    assert set(expected) <= set(changes(code))


def test_words_and_types_are_left_alone():
    assert changes('def f(a: int = x) -> str:\n    """A docstring."""\n    raise E(f"no {a}", "in words")') == [
        """m.f: without `raise E(f'no {a}', 'in words')`""",
        """m.f: `E(f'no {a}', 'in words')` → `E('in words', f'no {a}')`""",
    ]
