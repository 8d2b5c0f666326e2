"""How fast today's promote script is, beside that of another revision.

    python -m benchmarks.script_ratio REVISION [--rounds 300]

Both move batches of 256 due jobs on one server, in turns and in random order, so the ratio holds on any machine. A
batch's time is the server's, between two TIMEs of one pipeline.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import time
from typing import Any

from redis import Redis

from benchmarks.servers import valkey
from promoter_core.spi import CHASQUIMQ, pack_envelope
from promoter_resp.driver import Script

BATCH = 256
K = CHASQUIMQ.keys_of("ratio")


def script_of(revision: str, name: str) -> str:
    """The text of a script in a revision of this repository, with what it includes."""
    path = f"{revision}:backends/promoter_resp/scripts/{name}.lua"
    text = subprocess.run(["git", "show", path], check=True, capture_output=True, text=True).stdout
    return re.sub(r"(?m)^-- include (\w+)\n", lambda line: script_of(revision, line[1]), text)


def prepare(client: Any, number: int, *, index: bool) -> None:
    """A full batch of due jobs, an empty stream and a lock that is ours."""
    client.delete(K.stream, K.events)
    pipeline, now_ms, due = client.pipeline(transaction=False), int(time.time() * 1000), {}
    for i in range(BATCH):
        id = f"01J{number:08}{i:06}AAAAAAAAA"
        member = CHASQUIMQ.encode_member("", pack_envelope(id, b"x" * 80, 1, 0))
        due[member] = now_ms - 1_000 + i
        if index:
            pipeline.set(K.index + id.encode(), member)
    pipeline.set(K.lock, "me").zadd(K.delayed, due)
    pipeline.execute()


def batch_us(client: Any, sha: str, *, events: bool) -> int:
    """The server's time for one batch."""
    keys = (K.lock, K.delayed, K.stream, K.events, K.dlq)
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.evalsha(sha, 5, *keys, "me", 0, BATCH, 10**9, 1, int(events), 100_000, 0, K.index, b"", K.marker)
    pipeline.time()
    before, reply, after = pipeline.execute()
    assert reply[0] == BATCH, reply[:3]
    return int((after[0] - before[0]) * 1_000_000 + after[1] - before[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    scripts = {"then": script_of(args.revision, "promote"), "now": Script("promote").source}
    with valkey() as url, Redis.from_url(url) as client:
        shas = {name: client.script_load(text) for name, text in scripts.items()}
        for events, index in ((False, False), (True, False), (True, True)):
            times: dict[str, list[int]] = {name: [] for name in shas}
            for number in range(args.rounds):
                for name in random.sample(list(shas), 2):
                    prepare(client, number, index=index)
                    times[name].append(batch_us(client, shas[name], events=events))
            then, now = (statistics.median(times[name]) for name in ("then", "now"))
            print(f"events {events}, index {index}: then {then:.0f} us, now {now:.0f} us, speed {then / now:.3f}")


if __name__ == "__main__":
    main()
