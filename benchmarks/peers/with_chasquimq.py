"""chasquimq: its delayed jobs and its own worker."""

import asyncio

import chasquimq
import redis
from common import Run

run = Run("chasquimq")


async def noop(job):
    run.started(job.data["i"])


def check_server():
    """Its worker acknowledges with a command that came with Redis 8.6, and waits indefinitely on an older server."""
    info = redis.Redis.from_url(run.url).info("server")
    version = info.get("valkey_version") and "Valkey " + info["valkey_version"]
    if version or tuple(map(int, info["redis_version"].split(".")[:2])) < (8, 6):
        run.failed(f"its worker needs Redis 8.6, this is {version or info['redis_version']}")


async def main():
    check_server()
    queue = chasquimq.Queue("peers", redis_url=run.url)
    for i in range(run.jobs):
        await queue.add("noop", {"i": i}, delay_ms=int(run.delay(i) * 1000))
    run.scheduled()
    worker = chasquimq.Worker("peers", noop, redis_url=run.url, concurrency=100)
    await worker.run()


asyncio.run(main())
