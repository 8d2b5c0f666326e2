"""python -m tests.contract.mutants.generated [--every N] [--log FILE] [--equivalent FILE] [WORD …]

Runs the kit on all generated mutants, or on every N-th of those that are not equivalent and on those whose name holds
one of the words. Fails when one survives that `equivalent.toml` does not account for, or one of those is killed. A run
of all of them keeps in `killers.json` which test killed each.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

from tests.contract.mutants.generated import forks, loading
from tests.typed import present

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("words", nargs="*")
parser.add_argument("--every", type=int)
parser.add_argument("--log", type=Path)
parser.add_argument("--equivalent", type=Path, default=loading.EQUIVALENT)
options = parser.parse_args()

equivalent = loading.equivalent(options.equivalent)
mutants = list(loading.all_mutations())
if options.words or options.every:
    named = [m for m in mutants if any(word in m.name for word in options.words)]
    others = [m for m in mutants if m.name not in equivalent and m not in named]
    mutants = named + (others[:: options.every] if options.every else [])

with contextlib.ExitStack() as stack:
    log = stack.enter_context(options.log.open("w", buffering=1)) if options.log else None
    result = forks.run(mutants, log)
assert result.honest is not None
if result.honest.killer is not None:
    sys.exit(f"the honest backend fails {result.honest.killer}: {result.honest.how}")


def name_of(verdict: forks.Verdict) -> str:
    return present(verdict.mutation).name


problems = [
    *(f"survives: {name_of(v)}" for v in result.survivors if name_of(v) not in equivalent),
    *(f"not equivalent: {name_of(v)} ({v.killer})" for v in result.killed if name_of(v) in equivalent),
    *(f"the kit stumbles: {name_of(v)} ({v.killer}): {v.how}" for v in result.stumbled),
]
if not (options.words or options.every):
    # Not those that went on without an end: that takes seconds, and another test may say at once what is wrong.
    loading.keep_killers({name_of(v): v.killer for v in result.killed if v.killer and not v.how.startswith("it ")})
print(*problems, sep="\n")
print(
    f"{len(mutants)} mutants: {len(result.killed)} killed, {len(result.survivors)} survive, of which "
    f"{sum(name_of(v) in equivalent for v in result.survivors)} are equivalent; "
    f"{result.tests} tests; {forks.cpu_s():.1f} s of processor time"
)
sys.exit(bool(problems))
