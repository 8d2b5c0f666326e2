import asyncio

from promoter_core import (
    Backoff,
    DelayedQueue,
    Envelope,
    Promoter,
    RetriesExhausted,
    RetryOverrides,
    connect,
    unpack_envelope,
)
from promoter_core.spi import StreamName

BACKOFF = Backoff.exponential(0.01, max=60, max_attempts=2)


async def main():
    async with connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails")
        await emails.schedule("hello", job_id="ada-1")
        for _ in range(2):
            await asyncio.sleep(0.05)
            await Promoter(backend, "emails").run(until_idle=True)
            *_, entry = await backend.read("emails", StreamName.JOBS, "", 10)
            envelope: Envelope = unpack_envelope(entry.fields["d"])
            own: RetryOverrides | None = envelope.retry  # set by its producer; takes precedence
            try:
                print(await emails.retry(entry, backoff=BACKOFF), own)
            except RetriesExhausted as error:
                print(error)


asyncio.run(main())

# prints
# Scheduled(id='ada-1', outcome=<JobOutcome.CREATED: 'created'>) None
# job 'ada-1' has run 2 times, of 2 at most
