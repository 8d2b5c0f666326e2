import asyncio

from promoter_core import (
    DelayedQueue,
    ExportedPage,
    Job,
    TransferError,
    Transferred,
    connect,
    copy_jobs,
    export_jobs,
    import_jobs,
)


def size(page: ExportedPage) -> str:
    return f"{page.jobs} jobs, {'more to come' if page.cursor else 'complete'}"


def line(done: Transferred) -> str:
    return f"{done.created} new, {done.waiting} there already"


async def main():
    async with connect("memory://") as old, connect("memory://") as new:
        await DelayedQueue(old, "emails").schedule_many([Job(data=n, delay=60) for n in range(3)])
        pages = [page async for page in export_jobs(old, "emails")]
        print(size(pages[-1]))
        lines = b"".join(page.lines for page in pages).splitlines(keepends=True)
        try:
            await import_jobs(new, lines[:-2])
        except TransferError:  # truncated; the lines before are imported
            print(line(await import_jobs(new, lines)))
        print(line(await copy_jobs(old, "emails", new)))


asyncio.run(main())

# prints
# 3 jobs, complete
# 1 new, 2 there already
# 0 new, 3 there already
