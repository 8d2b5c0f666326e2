import asyncio

from promoter_core import Promoter, connect
from promoter_core.web import parse_address, serving


async def main():
    print(parse_address(":9464"))
    async with (
        connect("memory://") as backend,
        Promoter(backend, "emails").running() as promoter,
        serving("127.0.0.1:9464", [promoter]),
    ):
        await asyncio.sleep(0.1)  # /livez, /readyz, /status and /metrics answer


asyncio.run(main())

# prints
# ('127.0.0.1', 9464)
