"""How fast the rendered promote scripts of layouts are, beside scripts that are written by hand for one target.

    python -m benchmarks.layout_ratio [--rounds 200]

Both move the same due jobs on one server, in turns and in random order. The hand-written script is fenced, reads the
payload out of the envelope, adds it, deletes the jobs' cancel index and takes the batch out of the set by rank. It
knows unnamed jobs with ids of 26 bytes and payloads below 256 bytes only, and reports no lateness. A tick's time is
the server's.
"""

from __future__ import annotations

import argparse
import random
import statistics
from typing import Any

from redis import Redis

from benchmarks.script_ratio import BATCH, LOAD, Case, members
from benchmarks.servers import valkey
from promoter_core.registry import Registry
from promoter_core.spi import Layout
from promoter_resp.driver import Script

BY_HAND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local room = math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - redis.call('LENGTH', KEYS[3]))
local jobs = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, room)
local pcall, byte, sub = redis.pcall, string.byte, string.sub
local moved, index = 0, {}
for i = 1, #jobs do
  local member = jobs[i]
  local first = PLAIN + byte(member, 1) + 256 * byte(member, 2)
  local added = pcall(ADD, sub(member, first + 2, first + 1 + byte(member, first + 1)))
  if type(added) == 'table' then break end
  moved = moved + 1
INDEX
end
if moved > 0 then redis.call('ZREMRANGEBYRANK', KEYS[2], 0, moved - 1) end
if #index > 0 then redis.call('DEL', unpack(index)) end
return {moved, redis.call('ZCARD', KEYS[2]), redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')}
"""
LAYOUTS = {
    "stream": ("XLEN", "'XADD', KEYS[3], '*', 'data'"),
    "list": ("LLEN", "'RPUSH', KEYS[3]"),
    "celery": ("LLEN", "'LPUSH', KEYS[3]"),
}


def by_hand(name: str, *, plain: bool) -> str:
    length, add = LAYOUTS[name]
    at = "33" if plain else "32"  # header, array and id
    index = "" if plain else "  index[moved] = ARGV[9] .. sub(member, first - 26, first - 1)"
    return BY_HAND.replace("INDEX\n", f"{index}\n").replace("LENGTH", length).replace("ADD", add).replace("PLAIN", at)


def round_us(client: Any, layout: Layout, case: Case, number: int, sha: str, load: str) -> int:
    """The server's time for one batch, or for several small ticks."""
    k = layout.keys_of("ratio")
    client.delete(k.stream, k.events)
    pipeline, ticks = client.pipeline(transaction=False), max(1, 20 // case.jobs)
    pipeline.set(k.lock, "me")
    for tick in range(ticks):
        jobs = members(case, number * 32 + tick, plain=case.plain)
        pipeline.evalsha(load, 1, k.delayed, case.late_ms, *jobs.values())
        args = ("me", 0, BATCH, 10**9, 1, 0, 100_000, 0, k.index, b"", k.marker, k.keep)
        pipeline.time().evalsha(sha, 5, k.lock, k.delayed, k.stream, k.events, k.dlq, *args).time()
    replies = pipeline.execute()[1:]
    total = 0
    for before, reply, after in zip(replies[1::4], replies[2::4], replies[3::4], strict=True):
        assert reply[0] == case.jobs, reply[:3]
        total += int((after[0] - before[0]) * 1_000_000 + after[1] - before[1])
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    registry = Registry()
    with valkey() as url, Redis.from_url(url) as client:
        load = client.script_load(LOAD)
        for name in LAYOUTS:
            layout = registry.layout(name)
            for plain in (True, False):
                case = Case(f"{name}, {'index=False' if plain else 'as usual'}", plain=plain)
                rendered = Script("promote", layout.move).source
                shas = {"hand": client.script_load(by_hand(name, plain=plain)), "ours": client.script_load(rendered)}
                times: dict[str, list[int]] = {which: [] for which in shas}
                for number in range(args.rounds):
                    for which in random.sample(list(shas), len(shas)):
                        times[which].append(round_us(client, layout, case, number, shas[which], load))
                ratio = statistics.median(a / b for a, b in zip(times["ours"], times["hand"], strict=True))
                hand, ours = (statistics.median(times[which]) / BATCH for which in ("hand", "ours"))
                print(
                    f"{case.name:<28} by hand {hand:.2f} us a job, rendered {ours:.2f}, ratio {ratio:.2f}", flush=True
                )


if __name__ == "__main__":
    main()
