"""The thin connection on every transport and event loop: bursts, huge replies, and ends in the middle."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import tracemalloc
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import redis.exceptions as rx
import uvloop
from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection

from promoter_redis import thin_link
from promoter_redis.connect import plain
from promoter_redis.link import SENT_AT_ONCE, Link
from promoter_redis.thin_link import ThinLink, thin

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
PLAIN = plain(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(params=list(LOOPS))
def run(request):
    """Run a coroutine function on that kind of loop; whatever the loop complains of is an error."""
    complaints: list[object] = []

    async def watched(main):
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(30):
            return await main()

    def runs(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(watched(main))
        assert complaints == []

    return runs


@pytest.fixture(params=["tcp", "unix", "tls"])
def connected(request, certificate, tmp_path):
    """A thin link, and the server's end of it, on which nothing is answered by itself."""

    @asynccontextmanager
    async def connect():
        ends: asyncio.Queue[Any] = asyncio.Queue()

        async def serve(reader, writer):
            ends.put_nowait((reader, writer, over := asyncio.Event()))
            await over.wait()

        if request.param == "unix":
            path = str(tmp_path / "socket")
            server = await asyncio.start_unix_server(serve, path)
            connection = UnixDomainSocketConnection(path=path, **PLAIN)
        else:
            context = None
            if request.param == "tls":
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
            tls = {"ssl_ca_certs": str(certificate / "cert.pem")} if context else {}
            made = SSLConnection if context else Connection
            connection = made(host="127.0.0.1", port=server.sockets[0].getsockname()[1], **PLAIN, **tls)
        connecting = asyncio.create_task(connection.connect())
        reader, writer, over = await ends.get()
        answering = asyncio.create_task(_agree(reader, writer))
        await connecting
        answering.cancel()
        await asyncio.wait((answering,))
        link = await thin(Link(connection))
        assert isinstance(link, ThinLink)
        try:
            yield link, reader, writer
        finally:
            await link.close()
            writer.transport.abort()
            over.set()
            server.close()
            await asyncio.sleep(0.01)

    return connect


async def _agree(reader, writer):
    while sent := await reader.read(1000):
        writer.write(b"+OK\r\n" * sent.count(b"*"))


def bulk(data):
    return b"$%d\r\n%b\r\n" % (len(data), data)


def test_replies_that_come_at_once_are_each_whole(run, connected):
    """By TLS, each write is a record, and asyncio reads many of them into one buffer."""

    async def main():
        async with connected() as (link, _, writer):
            for _ in range(20):
                answer = link.call([("ONE",)] * 60)
                for i in range(60):
                    writer.write(b":%d\r\n" % i)
                assert await answer == list(range(60))

    run(main)


def test_a_huge_reply_is_whole_and_is_not_kept(run, connected):
    data = bytes(range(256)) * (1 << 15)  # 8 MB

    async def main():
        async with connected() as (link, _, writer):
            tracemalloc.start()
            try:
                answer = link.call([("ONE",), ("TWO",)])
                writer.write(b":1\r\n" + bulk(data))
                await writer.drain()
                replies = await answer
                assert replies == [1, data]
                del answer, replies
                await asyncio.sleep(0.01)
                assert tracemalloc.get_traced_memory()[0] < len(data) / 4
            finally:
                tracemalloc.stop()
            answer = link.call([("THREE",)])
            writer.write(b"+OK\r\n")
            assert await answer == [b"OK"]

    run(main)


def test_a_huge_call_arrives_whole_and_again(run, connected):
    commands = [("SET", b"k" * 1000, str(i)) for i in range(5000)]

    async def main():
        async with connected() as (link, reader, writer):
            for _ in range(2):
                answer = link.call(commands)
                sent = b""
                while not sent.endswith(b"$4\r\n4999\r\n"):
                    sent += await reader.read(SENT_AT_ONCE)
                assert sent.count(b"*3\r\n$3\r\nSET\r\n") == len(commands)
                writer.write(b"+OK\r\n" * len(commands))
                assert await answer == [b"OK"] * len(commands)

    run(main)


@pytest.mark.parametrize("sent", [b"", b":1\r\n", b":1\r\n$100\r\nab"])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_server_that_ends_in_the_middle_ends_the_call(run, connected, sent, end):
    async def main():
        async with connected() as (link, _, writer):
            answer = link.call([("ONE",), ("TWO",)])
            writer.write(sent)
            await asyncio.sleep(0.01)
            getattr(writer.transport, end)()
            with pytest.raises(rx.ConnectionError):
                await answer
            assert link.at_eof
            with pytest.raises(rx.ConnectionError):
                await link.call([("THREE",)])

    run(main)


def test_what_is_no_reply_ends_the_connection(run, connected):
    async def main():
        async with connected() as (link, reader, writer):
            answer = link.call([("ONE",)])
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with pytest.raises(rx.InvalidResponse):
                await answer
            assert link.at_eof
            with suppress(ConnectionError):
                while await reader.read(1000):
                    pass

    run(main)


def test_a_call_that_is_cancelled_in_mid_reply_takes_no_other_calls_place(run, connected):
    async def main():
        async with connected() as (link, _, writer):
            task = asyncio.create_task(link.send([("ONE",), ("TWO",)]))
            writer.write(b":1\r\n$3\r\na")
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await link.is_usable()
            writer.write(b"bc\r\n")
            await asyncio.sleep(0.01)

    run(main)


def test_a_connection_that_ends_while_it_becomes_thin_is_one_that_is_lost(run, connected):
    async def main():
        async with connected() as (link, *_):
            link.connection._writer.transport.abort()

            class Usable(Link):
                async def is_usable(self):
                    return True

            with pytest.raises(rx.ConnectionError):
                await thin(Usable(link.connection))

    run(main)


def test_a_call_of_nothing_is_answered(run, connected):
    async def main():
        async with connected() as (link, *_):
            assert await link.send([]) == []

    run(main)


def test_a_server_that_goes_on_unasked_is_given_up(run, connected, monkeypatch):
    monkeypatch.setattr(thin_link, "MOST_UNASKED", 10)

    async def main():
        async with connected() as (link, reader, writer):
            writer.write(b":1\r\n" * 10)
            await asyncio.sleep(0.01)
            assert not link.at_eof
            writer.write(b":1\r\n")
            with suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            assert link.at_eof

    run(main)
