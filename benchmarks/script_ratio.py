"""How fast today's promote script is, beside that of another revision.

    python -m benchmarks.script_ratio REVISION [--rounds 300] [--only named]

Both move the same due jobs on one server, in turns and in random order, so the ratio holds on any machine. A tick's
time is the server's, between two TIMEs around the whole command. The cases are batches of a backlog and small ticks, of
jobs with and without names, events and a cancel index. `floor` is a script that only adds the jobs of its batch to the
stream: the share of today's time that it takes. Ratios are medians of those of each round.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis

from benchmarks.servers import valkey
from promoter_core.spi import CHASQUIMQ, pack_envelope
from promoter_resp.driver import Script

BATCH = 256
K = CHASQUIMQ.keys_of("ratio")
KEYS = (K.lock, K.delayed, K.stream, K.events, K.dlq)
LOAD = """
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], due, ARGV[i]) end
"""
FLOOR = """
local pcall, sub = redis.pcall, string.sub
for i = 14, #ARGV do
  local added = pcall('XADD', KEYS[3], '*', 'd', ARGV[i])
  if added.err then return added end
end
return {#ARGV - 13}
"""


@dataclass(frozen=True)
class Case:
    """What is promoted in one tick."""

    name: str
    jobs: int = BATCH
    late_ms: int = 120_000
    names: tuple[str, ...] = ("",)
    id_sizes: tuple[int, ...] = (26,)
    index: bool = False
    events: bool = False
    plain: bool = False  # today's as DelayedQueue(…, index=False) packs them, the others' as usual


def cases() -> Iterator[Case]:
    for kind, names in (("unnamed", ("",)), ("named", ("send-email",))):
        for index in (False, True):
            for events in (False, True):
                with_ = " with " + "+".join(w for w, on in (("index", index), ("events", events)) if on)
                yield Case(f"{kind}{with_ if index or events else ''}", names=names, index=index, events=events)
    for kind, names in (("unnamed", ("",)), ("named", ("send-email",))):
        for events in (False, True):
            yield Case(f"{kind}{' with events' if events else ''}, index=False", names=names, events=events, plain=True)
    yield Case("named, ids of changing length", names=("send-email",), id_sizes=(20, 23, 26))
    yield Case("named, one of 20 names each", names=tuple(f"name-{i}" for i in range(20)))
    yield Case("named and unnamed in turns", names=("", "send-email"))
    yield Case("unnamed, ids of changing length", id_sizes=(20, 23, 26))
    for kind, names in (("unnamed", ("",)), ("named", ("send-email",))):
        for jobs in (1, 10):
            for late_ms in (0, 3, 30, 120_000):
                yield Case(f"small: {jobs} {kind}, {late_ms} ms late", jobs, late_ms, names)
    yield Case("small: 1 unnamed, 3 ms late, index=False", 1, 3, plain=True)
    yield replace(
        Case("small: 100 named with index+events, 3 ms late", 100, 3, ("send-email",)), index=True, events=True
    )


def script_of(revision: str, name: str) -> str:
    """The text of a script in a revision of this repository, with what it includes."""
    path = f"{revision}:backends/promoter_resp/scripts/{name}.lua"
    text = subprocess.run(["git", "show", path], check=True, capture_output=True, text=True).stdout
    text = re.sub(r"(?m)^-- include (\w+)\n", lambda line: script_of(revision, line[1]), text)
    parts = {"target": "local LENGTH = 'XLEN'\n", "trim": "  pcall('XTRIM', stream, 'MAXLEN', '~', cap)\n"}
    return re.sub(
        r"(?m)^-- layout (\w+)\n", lambda line: parts.get(line[1]) or script_of(revision, f"chasqui_{line[1]}"), text
    )


def members(case: Case, number: int, *, plain: bool) -> dict[bytes, bytes]:
    """New jobs, by id."""
    made = {}
    for i in range(case.jobs):
        id = f"01J{number:08}{i:06}AAAAAAAAA"[: random.choice(case.id_sizes)]
        name = random.choice(case.names) if len(case.names) != 2 else case.names[i % 2]
        made[id.encode()] = CHASQUIMQ.encode_member(name, pack_envelope(id, b"x" * 80, 1, 0, index=not plain))
    return made


def round_us(client: Any, case: Case, number: int, sha: str, load: str, which: str) -> int:
    """The server's time for one batch, or for several small ticks."""
    client.delete(K.stream, K.events)
    pipeline, ticks = client.pipeline(transaction=False), max(1, 20 // case.jobs)
    pipeline.set(K.lock, "me")
    for tick in range(ticks):
        jobs = members(case, number * 32 + tick, plain=case.plain and which == "now")
        if case.index:
            pipeline.mset({K.index + id: member for id, member in jobs.items()})
        if which == "floor":
            extra = [member[4 + member[0] :] for member in jobs.values()]
        else:
            extra = []
            pipeline.evalsha(load, 1, K.delayed, case.late_ms, *jobs.values())
        args: tuple[object, ...] = (
            "me",
            0,
            BATCH,
            10**9,
            1,
            int(case.events),
            100_000,
            0,
            K.index,
            b"",
            K.marker,
            K.keep,
        )
        # Today's looks for trace contexts, of which there are none. The others get as many bytes: a longer pipeline is
        # read in other pieces, which takes more time than a small tick.
        args = (*args[:9], K.trace, *args[10:], 0) if which == "now" else (*args, K.trace + b"0")
        pipeline.time().evalsha(sha, 5, *KEYS, *args, *extra).time()
    replies = pipeline.execute()[1:]
    step, total = len(replies) // ticks, 0
    for first in range(0, len(replies), step):
        before, reply, after = replies[first + step - 3 : first + step]
        assert reply[0] == case.jobs, reply[:3]
        total += int((after[0] - before[0]) * 1_000_000 + after[1] - before[1])
    return total


@dataclass(frozen=True)
class Compared:
    """The server's microseconds, and medians of the ratios of each round."""

    then_us: float
    now_us: float
    speed: float  # how many times as fast as then
    floor: float  # the share of today's time that adding alone takes


def compare(revision: str, chosen: Iterable[Case], rounds: int) -> Iterator[tuple[Case, Compared]]:
    """Each case with what was seen."""
    scripts = {"then": script_of(revision, "promote"), "now": Script("promote").source, "floor": FLOOR}
    with valkey() as url, Redis.from_url(url) as client:
        shas, load = {name: client.script_load(text) for name, text in scripts.items()}, client.script_load(LOAD)
        for case in chosen:
            times: dict[str, list[int]] = {name: [] for name in shas}
            for number in range(rounds):
                for name in random.sample(list(shas), len(shas)):
                    times[name].append(round_us(client, case, number, shas[name], load, name))
            then, now = (statistics.median(times[name]) for name in ("then", "now"))
            speed, share = (
                statistics.median(a / b for a, b in zip(times[name], times["now"], strict=True))
                for name in ("then", "floor")
            )
            yield case, Compared(then, now, speed, share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    chosen = [case for case in cases() if args.only in case.name]
    for case, found in compare(args.revision, chosen, args.rounds):
        print(
            f"{case.name:<48} then {found.then_us:>5.0f} us, now {found.now_us:>5.0f} us, speed {found.speed:.3f}, "
            f"floor {found.floor:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
