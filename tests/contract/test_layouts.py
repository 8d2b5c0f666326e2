"""The contract of layouts, for each that we have, on each server, and through GLIDE and fakeredis."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
from redis.asyncio import Redis

from promoter_core import connect
from promoter_core.testing.conformance import LayoutContract

LAYOUTS = [
    "stream:field=__data__,id_field=id,name_field=name",
    "list:key=jobs:{{queue}}",
    "list:side=left",
    "faststream",
    "faststream-list",
    "taskiq",
    "taskiq-list",
    "celery",
]


class LayoutOnServer(LayoutContract):
    scheme = "redis"

    @pytest.fixture
    async def client(self, any_server):
        async with Redis.from_url(any_server.url) as client:
            yield client

    @pytest.fixture(params=LAYOUTS)
    def layout(self, request):
        return request.param

    @pytest.fixture
    def url(self, any_server):
        return f"{self.scheme}://{any_server.address}/0"

    @pytest.fixture
    async def backend(self, url, layout):
        async with connect(url, layout=layout) as backend:
            yield backend

    @pytest.fixture
    def take(self, client, backend):
        return lambda queue: taken(client, backend.layout, queue)

    @pytest.fixture
    def spoil(self, client):
        async def spoil(key):
            await client.hset(key, "a", "b")

        return spoil

    @pytest.fixture
    def add_malformed(self, client, backend):
        async def add(queue, member):
            await client.zadd(backend.layout.keys_of(queue).delayed, {member: 1})

        return add

    @pytest.fixture
    async def restricted(self, any_server, client, layout):
        async with contextlib.AsyncExitStack() as stack:

            async def restricted(words):
                if any_server.name == "redis-7.0":
                    words = [word for word in words if word != "+client|setinfo"]
                words = [*words, "+psubscribe", "+xdel"]
                await client.execute_command("ACL", "SETUSER", "restricted", "reset", "on", ">pw", *words)
                stack.push_async_callback(client.execute_command, "ACL", "DELUSER", "restricted")
                url = f"{self.scheme}://restricted:pw@{any_server.address}/0"
                return await stack.enter_async_context(connect(url, layout=layout))

            yield restricted

    @pytest.fixture
    async def written(self, any_server, client):
        async with writes_of_scripts(any_server, client) as written:
            yield written


class TestRedis(LayoutOnServer):
    pass


class TestGlide(LayoutOnServer):
    scheme = "glide"

    @pytest.fixture
    def any_server(self, valkey):
        return valkey

    @pytest.fixture(params=LAYOUTS[:2])
    def layout(self, request):
        return request.param


class TestFake(LayoutOnServer):
    @pytest.fixture
    def any_server(self):
        return None

    @pytest.fixture(params=LAYOUTS[:3])
    def layout(self, request):
        return request.param

    @pytest.fixture
    def url(self, layout):
        return f"fake://layouts-{abs(hash(layout))}"

    @pytest.fixture
    async def client(self, backend):
        from fakeredis.aioredis import FakeRedis

        async with FakeRedis(server=backend._driver.server) as client:
            yield client

    @pytest.fixture
    def restricted(self):
        pytest.skip("fakeredis has no users")

    @pytest.fixture
    def written(self):
        pytest.skip("fakeredis has no MONITOR")


async def taken(client, layout, queue):
    """What is at the target, in the order in which consumers take it."""
    key = layout.keys_of(queue).stream
    if await client.type(key) == b"stream":
        (field, _), *_ = layout.move.fields
        payloads = [fields[field.encode()] for _, fields in await client.xrange(key)]
    else:
        payloads = await client.lrange(key, 0, -1)
        if getattr(layout.move, "side", "") == "left":
            payloads.reverse()
    await client.delete(key)
    return payloads


WRITES = b"xadd lpush rpush ltrim xtrim zadd zrem zremrangebyrank set del pexpire getdel xdel".split()
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')


def keys_written(line):
    words = [word.replace(b'\\"', b'"') for word in WORD.findall(line)]
    if not words or words[0].lower() not in WRITES or b"lua]" not in line.split(b'"')[0]:
        return set()
    return set(words[1:]) if words[0].lower() == b"del" else {words[1]}


@contextlib.asynccontextmanager
async def writes_of_scripts(server, client):
    """Yield `async ()`: the keys that scripts have written to since the last call. By MONITOR."""
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    writer.write(b"MONITOR\r\n")
    await reader.readline()

    async def written():
        mark = f"mark-{id(reader)}"
        await client.echo(mark)
        keys = set()
        while mark.encode() not in (line := await reader.readline()):
            keys |= keys_written(line)
        return keys

    yield written
    writer.close()
