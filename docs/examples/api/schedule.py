import asyncio
from datetime import timedelta

from promoter_core import DelayedQueue, Job, JobOutcome, Scheduled, connect


async def main():
    async with connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails")
        first: Scheduled = await emails.schedule({"to": "ada"}, delay=timedelta(hours=1), job_id="ada-1")
        again = await emails.schedule({"to": "ada"}, delay=timedelta(hours=1), job_id="ada-1")
        print(first.id, first.created, again.created)

        await emails.schedule_many([Job(data=n, delay=60, job_id=f"digest-{n}") for n in range(100)])
        print(await emails.reschedule("digest-7", delay=120), await emails.cancel("ada-1") is JobOutcome.REMOVED)
        print((await emails.stats()).depth)


asyncio.run(main())

# prints
# ada-1 True False
# moved True
# 100
