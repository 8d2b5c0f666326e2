import asyncio

from promoter_core import BulkInterrupted, BulkResult, DelayedQueue, Job, connect


async def cancel_all(queue: DelayedQueue, name: str) -> BulkResult:
    position = None
    while True:
        try:
            return await queue.cancel_where(name=name, resume=position)
        except BulkInterrupted as error:  # the store was unreachable: continue where it stopped
            position = error.position
            await asyncio.sleep(1)


async def main():
    async with connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails")
        await emails.schedule_many([Job(data=n, delay=60, name="digest") for n in range(1000)])
        result = await cancel_all(emails, "digest")
        print(result.matched, {str(outcome): times for outcome, times in result.outcomes.items()})


asyncio.run(main())

# prints
# 1000 {'removed': 1000}
