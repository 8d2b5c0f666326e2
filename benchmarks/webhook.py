"""Memory and lateness after an hour of a webhook that is dead, slow or fine, on the virtual clock.

    python -m benchmarks.webhook

A job a second, and twice a backlog of 50,000. Memory is what Python has allocated beyond a run without a webhook.
"""

from __future__ import annotations

import asyncio
import tracemalloc

from promoter_core import DelayedQueue, Promoter, PromoterSettings
from promoter_core.spi import JobRequest, pack_envelope
from promoter_core.testing import RecordingMetrics, VirtualClock
from promoter_memory.backend import MemoryBackend
from promoter_webhook.delivery import Answer, Message, Post
from promoter_webhook.sink import WebhookEvents


async def hour(post: Post | None, clock: VirtualClock) -> tuple[int, int, int]:
    """Bytes allocated at the end, batches dropped, ms of lateness of the latest job."""
    backend = MemoryBackend(clock=clock)
    await backend.open()
    sinks = [WebhookEvents("http://hook", clock=clock, post=post)] if post else []
    queue, metrics, latest = DelayedQueue(backend, "q", clock=clock), RecordingMetrics(), 0
    settings = PromoterSettings(events=False)
    tracemalloc.start()
    async with Promoter(backend, "q", settings, events=sinks, metrics=[metrics], clock=clock).running() as promoter:
        for second in range(3_600):
            await queue.schedule("x", delay=0.5, index=False)
            if second in (1_200, 2_400):
                many = [
                    JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=500, index=False)
                    for i in range(50_000)
                ]
                await backend.schedule("q", many)
            await clock.sleep(1)
            latest = max([latest, *(len(tick.promotion.lateness_counts) for _, tick in metrics.ticks)])
            metrics.ticks.clear()
        size, _ = tracemalloc.get_traced_memory()
        dropped = promoter.dropped_batches
    tracemalloc.stop()
    return size, dropped, latest


def main() -> None:
    none, _, _ = asyncio.run(hour(None, VirtualClock()))
    print(f"{'webhook':<12} {'memory':>9} {'dropped':>8}  jobs later than 1 ms")
    for name in ("fine", "down", "slow", "answers 500"):
        clock = VirtualClock()

        async def post(message: Message, name: str = name, clock: VirtualClock = clock) -> Answer:
            if name == "down":
                raise OSError("connection refused")
            if name == "slow":
                await clock.sleep(30)
                raise TimeoutError
            return Answer(204 if name == "fine" else 500)

        size, dropped, latest = asyncio.run(hour(post, clock))
        print(f"{name:<12} {(size - none) / 2**20:>5.1f} MiB {dropped:>8}  {'none' if not latest else 'some'}")


if __name__ == "__main__":
    main()
