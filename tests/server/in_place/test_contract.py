"""The contract of layouts in place, with the real producers, schedulers and consumers of Sidekiq and Laravel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from promoter_core import connect
from promoter_core.testing.conformance import InPlaceContract
from tests.server.in_place.apps import HERE, App, OnAServer, all_wait, contents, copied, need

pytestmark = pytest.mark.server
VALUES = [[], {}, 2**53 + 1, "é\0", None, 1.5]


class WithServer(OnAServer, InPlaceContract):
    layout: str
    source: bytes
    target: str
    app: Callable[[str], App]
    plain: Callable[[bytes], bytes]

    @pytest.fixture
    async def client(self, server):
        async with Redis.from_url(server.url) as client:
            yield client

    @pytest.fixture
    async def backend(self, server):
        async with connect(server.url, layout=self.layout) as backend:
            yield backend

    @pytest.fixture
    def add(self, client):
        return lambda member, score: client.zadd(self.source, {member: score})

    @pytest.fixture
    def spoil(self, client):
        return lambda: client.hset(self.target, "a", "b")

    @pytest.fixture
    def scores(self, client):
        return lambda: client.zrange(self.source, 0, -1, withscores=True)

    @pytest.fixture
    def golden(self, server, client, backend, produce, queue):
        async def golden():
            await all_wait(
                client, self.source, 5, lambda ahead_s: produce([time.time() + ahead_s + i / 10 for i in range(5)])
            )
            async with Redis.from_url(f"{server.url}/1") as other:
                await copied(client, other, self.source)
                while (await backend.stats(queue)).due < 5:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(self.app(f"{server.url}/1").run, "poll")
                lease = await backend.lock(queue, "leader", 10_000)
                while (await backend.promote(lease, self.request())).depth:
                    await asyncio.sleep(0.05)
                await backend.unlock(lease)
                return await contents(client, decode=self.plain), await contents(other, decode=self.plain)

        return golden

    @staticmethod
    def request():
        from promoter_core.testing.conformance.harness import REQUEST

        return REQUEST

    @pytest.fixture
    def consume(self, server):
        async def consume():
            got = []
            for line in await asyncio.to_thread(self.app(server.url).lines, "take", "once"):
                id, args = json.loads(line)
                assert args == VALUES
                got.append(id)
            return got

        return consume


class TestSidekiq(WithServer):
    layout, source, target = "sidekiq", b"schedule", "queue:mail"

    @pytest.fixture(autouse=True)
    def installed(self):
        need("sidekiq", "ruby", "sidekiq")

    @pytest.fixture
    def queue(self):
        return "schedule"

    @staticmethod
    def app(url):
        return App(["ruby", str(HERE / "sidekiq_app.rb")], url, POLL_S="0.2")

    @staticmethod
    def plain(job):
        return json.loads(job) | {"enqueued_at": None}

    @pytest.fixture
    def produce(self, server):
        async def produce(dues):
            jobs = [{"class": "Echo", "at": due, "args": VALUES} for due in dues]
            return await asyncio.to_thread(self.app(server.url).run, "produce", lines=jobs)

        return produce

    @pytest.fixture
    def beside(self, server):
        @contextlib.asynccontextmanager
        async def beside():
            app = self.app(server.url)
            with app.running("sidekiq", "-r", app.command[1], "-q", "nothing", "-c", "1"):
                yield

        return beside


class TestLaravel(WithServer):
    layout, source, target = "laravel:prefix=app_", b"app_queues:default:delayed", "app_queues:default"

    @pytest.fixture(autouse=True)
    def installed(self):
        need("laravel", "php", "/usr/share/php/Illuminate/Queue/autoload.php")

    @pytest.fixture
    def queue(self):
        return "default"

    @staticmethod
    def app(url):
        return App(["php", str(HERE / "laravel_app.php")], url, PREFIX="app_")

    plain = bytes

    @pytest.fixture
    def produce(self, server):
        async def produce(dues):
            jobs = [{"at": due, "data": VALUES} for due in dues]
            return await asyncio.to_thread(self.app(server.url).run, "produce", lines=jobs)

        return produce

    @pytest.fixture
    def beside(self, server):
        @contextlib.asynccontextmanager
        async def beside():
            app = self.app(server.url)
            with app.running(*app.command, "migrate"):
                yield

        return beside
