import asyncio
from datetime import timedelta

from promoter_core import DelayedQueue, Promoter, TransientError, connect
from promoter_core.testing import Fault, FaultyBackend, RecordingEvents, RecordingMetrics, VirtualClock


async def main():
    clock, events, metrics = VirtualClock(), RecordingEvents(), RecordingMetrics()
    async with connect("memory://", clock=clock) as backend:
        emails = DelayedQueue(FaultyBackend(backend, Fault("schedule", nth=1)), "emails", clock=clock)
        for _ in range(2):
            try:
                await emails.schedule("hello", delay=timedelta(hours=1), job_id="ada-1")
            except TransientError as error:
                print(error)
        async with Promoter(backend, "emails", metrics=[metrics], events=[events], clock=clock).running():
            await clock.sleep(3601)  # takes no real time
    print(events.ids, metrics.promoted)


asyncio.run(main())

# prints
# injected: the connection was lost
# ['ada-1'] 1
