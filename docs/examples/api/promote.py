import asyncio

from promoter_core import DelayedQueue, Health, Promoter, PromoterFleet, Runner, connect


def report(runner: Runner) -> list[tuple[str, str]]:
    healths: list[Health] = runner.health()
    return [(health.queue, health.state) for health in healths]


async def main():
    async with connect("memory://") as backend:
        await DelayedQueue(backend, "mail-ada").schedule("hello")
        async with (
            Promoter(backend, "emails").running() as promoter,
            PromoterFleet(backend, ["mail-*"]).running() as fleet,
        ):
            await asyncio.sleep(1)
            print(report(promoter), report(fleet))
            print(promoter.unready(), fleet.unready())


asyncio.run(main())

# prints
# [('emails', 'leader')] [('mail-ada', 'leader')]
# [] []
