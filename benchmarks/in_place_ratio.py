"""How fast the rendered scripts of layouts in place are, beside scripts that are written by hand for one framework.

    python -m benchmarks.in_place_ratio [--rounds 200]

Both move the same due jobs of a server, in turns and in random order. The hand-written script is fenced, asks for room,
makes the framework's writes for each job, and takes the batch out of the set by rank. It reports no lateness, and no
member that is no job. A batch's time is the server's, between two TIMEs around the whole command.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from typing import Any

from redis import Redis

from benchmarks.servers import valkey
from promoter_core.registry import Registry
from promoter_core.spi import in_place
from promoter_resp.driver import Script

BATCH = 256
BY_HAND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {-1} end
local time = redis.call('TIME')
local room = math.min(tonumber(ARGV[3]), tonumber(ARGV[4]) - redis.call('LLEN', KEYS[3]))
local jobs = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', time[1] .. '.' .. time[2], 'LIMIT', 0, room)
local pcall, decode, sub = redis.pcall, cjson.decode, string.sub
local moved = 0
for i = 1, #jobs do
  local member = jobs[i]
  local added
BODY
  if type(added) == 'table' then break end
  moved = moved + 1
end
if moved > 0 then redis.call('ZREMRANGEBYRANK', KEYS[2], 0, moved - 1) end
return {moved, redis.call('ZCARD', KEYS[2]), redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')}
"""
BODIES = {
    "laravel": "  added = pcall('RPUSH', KEYS[3], member) redis.call('RPUSH', KEYS[6], '1')",
    "sidekiq": """
  local job = decode(member)
  local stamp = ',"enqueued_at":' .. time[1] .. '.' .. time[2] .. '}'
  redis.call('SADD', KEYS[6], job.queue)
  added = pcall('LPUSH', KEYS[7] .. job.queue, sub(member, 1, -2) .. stamp)""",
}
QUEUES = {"laravel": "default", "sidekiq": "schedule"}


def members(name: str, number: int) -> list[str]:
    """Jobs as the framework's producers make them."""
    ids = [f"{number:08}{i:08}" for i in range(BATCH)]
    if name == "sidekiq":
        return [
            json.dumps(
                {"class": "Mail", "queue": f"q{i % 4}", "args": [i, "ada@example.com"], "jid": id, "created_at": 1.5}
            )
            for i, id in enumerate(ids)
        ]
    return [json.dumps({"uuid": id, "job": "Mail", "data": {"i": i, "to": "ada"}}) for i, id in enumerate(ids)]


def batch_us(client: Any, layout: in_place.InPlace, name: str, number: int, sha: str) -> int:
    """The server's time for one batch."""
    queue = QUEUES[name]
    k = layout.keys_of(queue)
    keys = (k.lock, k.delayed, k.stream, k.events, k.dlq, *layout.keys_for_script(queue))
    client.flushdb()
    pipeline = client.pipeline(transaction=False)
    pipeline.set(k.lock, "me")
    pipeline.zadd(k.delayed, {member: 1 + i for i, member in enumerate(members(name, number))})
    args = ("me", 0, BATCH, 10**9, 1, 0, 100_000, 0, k.index, b"", k.marker, k.keep)
    pipeline.time().evalsha(sha, len(keys), *keys, *args).time()
    before, reply, after = pipeline.execute()[2:]
    assert reply[0] == BATCH, reply[:3]
    return int((after[0] - before[0]) * 1_000_000 + after[1] - before[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    with valkey() as url, Redis.from_url(url) as client:
        for name, body in BODIES.items():
            layout = Registry().layout(name)
            assert isinstance(layout, in_place.InPlace)
            by_hand, rendered = BY_HAND.replace("BODY", body), Script("in_place", layout).source
            shas = {"hand": client.script_load(by_hand), "ours": client.script_load(rendered)}
            times: dict[str, list[int]] = {which: [] for which in shas}
            for number in range(args.rounds):
                for which in random.sample(list(shas), len(shas)):
                    times[which].append(batch_us(client, layout, name, number, shas[which]))
            ratio = statistics.median(a / b for a, b in zip(times["ours"], times["hand"], strict=True))
            hand, ours = (statistics.median(times[which]) / BATCH for which in ("hand", "ours"))
            print(f"{name:<10} by hand {hand:.2f} us a job, rendered {ours:.2f}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
