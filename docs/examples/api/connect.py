import asyncio

from promoter_core import Backend, Credentials, connect


async def read_secret():
    """Called for each new connection, so that the password can change while the program runs."""
    return "app", "secret"


async def depth(backend: Backend) -> int:
    return (await backend.stats("emails")).depth


async def main():
    credentials: Credentials = read_secret
    async with connect("redis://localhost:6379") as backend:  # credentials=credentials, if the server requires them
        print(await depth(backend), await credentials())


asyncio.run(main())

# prints
# 0 ('app', 'secret')
