import asyncio

from promoter_core import DelayedJob, DelayedQueue, Page, QueueInfo, QueueStats, connect, list_queues


def line(job: DelayedJob) -> str:
    return f"{job.id} {job.name} {job.data()}"


def total(infos: list[QueueInfo]) -> int:
    return sum(info.stats.depth for info in infos)


async def main():
    async with connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails")
        await emails.schedule("hello", name="welcome", delay=60, job_id="ada-1")
        page: Page = await emails.jobs(limit=10)
        print([line(job) for job in page.jobs], repr(page.cursor))

        stats: QueueStats = await emails.stats()
        print(stats.depth, stats.due, stats.holder)
        print(total([info async for info in list_queues(backend, "e*")]))


asyncio.run(main())

# prints
# ['ada-1 welcome hello'] ''
# 1 0 None
# 1
