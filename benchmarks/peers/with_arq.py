"""arq: its delayed jobs and its own worker."""

import asyncio
from datetime import UTC, datetime

from arq import Worker, create_pool
from arq.connections import RedisSettings
from common import Run, host_port

run = Run("arq")


async def noop(ctx, i):
    run.started(i)


async def main():
    host, port = host_port(run.url)
    settings = RedisSettings(host=host, port=port)
    pool = await create_pool(settings)
    for i in range(run.jobs):
        await pool.enqueue_job("noop", i, _defer_until=datetime.fromtimestamp(run.due(i), UTC))
    run.scheduled()
    await Worker([noop], redis_settings=settings, max_jobs=100, handle_signals=False).async_run()


asyncio.run(main())
