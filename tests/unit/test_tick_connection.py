"""The tick connection against servers of the test: which of them ticks, in what time, with hiredis and without."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Connection

from promoter_redis import thin_link
from promoter_redis.connect import plain
from promoter_redis.connections import Connections
from promoter_redis.thin_link import ThinLink
from promoter_redis.tick_connection import TickConnection
from promoter_resp.driver import Call, Script
from tests import virtual_loop
from tests.typed import untyped

CALL = Call(Script("promote"), (b"k",), (1,))
TIMEOUT_S = 2


class Server:
    """Answers each tick with what `answers` gives, in turn; None for silence."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.ticks: list[bytes] = []
        self.connections = 0
        self.serving: list[asyncio.Task[object]] = []

    def serve(self, reader, writer):
        self.connections += 1
        self.serving.append(asyncio.create_task(self._serve(reader, writer)))

    async def close(self):
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        try:
            while sent := await reader.read(100_000):
                if b"EVAL" not in sent:
                    writer.write(b"+OK\r\n" * sent.count(b"*"))
                    continue
                self.ticks.append(sent)
                seconds, answer = self.answers.pop(0)
                await asyncio.sleep(seconds)
                if answer is not None:
                    writer.write(answer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()


class Sentinels:
    """Name one of two servers."""

    def __init__(self, ports):
        self.ports = ports
        self.ready = asyncio.Event()
        self.ready.set()

    async def settled(self):
        await self.ready.wait()

    async def primary(self):
        return "127.0.0.1", self.ports[0]

    def doubt(self): ...

    async def close(self): ...


@asynccontextmanager
async def ticking(*servers):
    listening = [await asyncio.start_server(server.serve, "127.0.0.1", 0) for server in servers]
    sentinels = Sentinels([one.sockets[0].getsockname()[1] for one in listening])
    connections = Connections(
        lambda: Connection(**plain(TIMEOUT_S)),
        timeout_s=TIMEOUT_S,
        sentinels=untyped(sentinels),
        identifies=False,
    )
    ticks = TickConnection(connections, tracks=False)
    try:
        yield ticks, connections, sentinels
    finally:
        await ticks.close()
        await connections.close()
        for one, server in zip(listening, servers, strict=True):
            one.close()
            await server.close()
        await asyncio.sleep(0.01)


@pytest.fixture(params=["thin", "redis-py"])
def kind(request, monkeypatch):
    if request.param == "redis-py":
        monkeypatch.setattr(thin_link, "hiredis", None)
    return request.param


def test_ticks_that_are_alike_are_all_sent(kind):
    async def main():
        server = Server(*((0, b":%d\r\n" % i) for i in range(5)))
        async with ticking(server) as (ticks, *_):
            assert [await ticks.run_tracked([CALL]) for _ in range(3)] == [[0], [1], [2]]
            assert isinstance(ticks._link, ThinLink) == (kind == "thin")
            other = Call(CALL.script, (b"other",), (1,))
            assert await ticks.run_tracked([other]) == [3]
            assert await ticks.run_tracked([CALL]) == [4]
            assert await ticks.run_tracked([]) == []
        first, second, third, fourth, fifth = server.ticks
        assert first == second == third == fifth != fourth
        assert server.connections == 1

    virtual_loop.run(main)


def test_a_tick_that_waited_for_another_primary_runs_there(kind):
    async def main():
        old, new = Server((0, b":1\r\n"), (0, b":1\r\n")), Server((0, b":2\r\n"))
        async with ticking(old, new) as (ticks, connections, sentinels):
            assert await ticks.run_tracked([CALL]) == [1]
            sentinels.ready.clear()
            tick = asyncio.create_task(ticks.run_tracked([CALL]))
            await asyncio.sleep(0.1)
            sentinels.ports.reverse()
            connections.give_up(connections.epoch, "another primary")
            sentinels.ready.set()
            assert await tick == [2]
        assert (len(old.ticks), len(new.ticks)) == (1, 1)

    virtual_loop.run(main)


def test_a_script_that_is_loaded_adds_nothing_to_the_time_of_a_tick(kind):
    async def main():
        server = Server((0, b":1\r\n"), (1.5, b"-NOSCRIPT No matching script\r\n"), (0.1, b":3\r\n"))
        server.answers += [(1.5, b"-NOSCRIPT No matching script\r\n"), (9, None)]
        async with ticking(server) as (ticks, *_):
            assert await ticks.run_tracked([CALL]) == [1]
            assert await ticks.run_tracked([CALL]) == [3]
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                await ticks.run_tracked([CALL])
            assert asyncio.get_running_loop().time() - began_s == pytest.approx(TIMEOUT_S, abs=0.01)

    virtual_loop.run(main)


def test_a_script_is_not_loaded_into_a_server_that_is_given_up_meanwhile():
    async def main():
        old, new = Server((0, b":1\r\n"), (0.1, b"-NOSCRIPT No matching script\r\n"), (0, b":9\r\n")), Server()
        async with ticking(old, new) as (ticks, connections, sentinels):
            assert await ticks.run_tracked([CALL]) == [1]
            tick = asyncio.create_task(ticks.run_tracked([CALL]))
            await asyncio.sleep(0.05)
            sentinels.ready.clear()
            await asyncio.sleep(0.1)
            connections.give_up(connections.epoch, "another primary")
            sentinels.ready.set()
            with suppress(Exception):
                await tick
        assert len(old.ticks) == 2

    virtual_loop.run(main)


@pytest.mark.parametrize("passed_s", [0.0, 0.5])
def test_the_answer_to_a_tick_that_is_cancelled_is_not_the_next_ones(kind, passed_s):
    async def main():
        server = Server((0, b":1\r\n"), (1, b":2\r\n"), (0, b":3\r\n"))
        async with ticking(server) as (ticks, *_):
            assert await ticks.run_tracked([CALL]) == [1]
            tick = asyncio.create_task(ticks.run_tracked([CALL]))
            await asyncio.sleep(passed_s)
            tick.cancel()
            with pytest.raises(asyncio.CancelledError):
                await tick
            await asyncio.sleep(0.01)
            assert await ticks.run_tracked([CALL]) == [3]
        assert server.connections == 2

    virtual_loop.run(main)


def test_a_server_that_is_silent_is_given_up_after_two_ticks(kind):
    async def main():
        server = Server((0, b":1\r\n"), (60, None), (60, None), (0, b":4\r\n"))
        async with ticking(server) as (ticks, connections, _):
            assert await ticks.run_tracked([CALL]) == [1]
            for epoch in (0, 0):
                assert connections.epoch == epoch
                began_s = asyncio.get_running_loop().time()
                with pytest.raises(TimeoutError):
                    await ticks.run_tracked([CALL])
                assert asyncio.get_running_loop().time() - began_s == pytest.approx(TIMEOUT_S, abs=0.01)
            assert connections.epoch == 1
            assert await ticks.run_tracked([CALL]) == [4]

    virtual_loop.run(main)
