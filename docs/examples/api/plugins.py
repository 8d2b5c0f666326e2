import asyncio
import json

from promoter_core import BrokenPlugin, DelayedQueue, Registered, Registry, Serializer


class Json:
    """A `Serializer`: any object with these two methods."""

    def dumps(self, data: object) -> bytes:
        return json.dumps(data).encode()

    def loads(self, payload: bytes, type: object = None) -> object:
        return json.loads(payload)


async def main():
    registry = Registry()
    backends: list[Registered] = [found for found in registry.all() if found.kind == "backend"]
    broken: list[BrokenPlugin] = list(registry.broken())
    print("memory" in [found.plugin for found in backends], broken)

    serializer: Serializer = Json()
    async with registry.connect("memory://") as backend:
        emails = DelayedQueue(backend, "emails", serializer=serializer)
        job = await emails.schedule({"to": "ada"}, delay=60)
        waiting = await emails.get(job)
        print(waiting and waiting.data())


asyncio.run(main())

# prints
# True []
# {'to': 'ada'}
