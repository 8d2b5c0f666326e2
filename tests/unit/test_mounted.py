"""ASGI applications among the pages of `serving`."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import ConfigError
from promoter_core.cli import run_pages
from promoter_core.web import serving
from promoter_memory.backend import MemoryBackend
from tests.servers import free_port

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("starlette")


class App:
    """Answers with what it was asked; `/slow` goes on until it is to end, and `/broken` raises."""

    def __init__(self):
        self.scopes = []
        self.ended = []
        self.closed = False

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        message = await receive()
        if scope["path"].endswith("/broken"):
            raise ZeroDivisionError
        headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        if scope["path"].endswith("/slow"):
            gone = asyncio.create_task(receive())
            try:
                while not gone.done():
                    await send({"type": "http.response.body", "body": b"more\n", "more_body": True})
                    await asyncio.wait((gone,), timeout=0.01)
                self.ended.append(gone.result()["type"])
                await send({"type": "http.response.body"})
            except OSError:
                self.ended.append("OSError")
                gone.cancel()
                raise RuntimeError("as frameworks do") from None
            return
        await send({"type": "http.response.body", "body": message["body"] + b"!"})

    async def aclose(self):
        self.closed = True


@pytest.fixture
async def served():
    app, port = App(), free_port()
    async with serving(f"127.0.0.1:{port}", [], pages={"wall": app}), aiohttp.ClientSession() as session:
        yield app, session, f"http://127.0.0.1:{port}"


async def test_an_application_sees_the_request_as_it_came(served):
    app, session, base = served
    async with session.post(f"{base}/wall/a%20b?x=%FF&y=1", data=b"body", headers={"X-Two": "2"}) as answer:
        assert (answer.status, await answer.read()) == (201, b"body!")
        assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
    (scope,) = app.scopes
    assert (scope["type"], scope["method"], scope["scheme"], scope["http_version"]) == ("http", "POST", "http", "1.1")
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == ("/wall/a b", b"/wall/a%20b", "/wall")
    assert scope["query_string"] == b"x=%FF&y=1"
    assert (b"x-two", b"2") in scope["headers"]
    async with session.head(f"{base}/wall/") as answer:
        assert (answer.status, await answer.read()) == (201, b"")


async def test_its_address_is_found_without_the_slash_behind_any_proxy(served):
    _, session, base = served
    for path, location in (("/wall", "wall/"), ("/", "wall/")):
        async with session.get(base + path, allow_redirects=False) as answer:
            assert answer.headers["location"] == location
    async with session.get(f"{base}/livez") as answer:
        assert answer.status == 200
    async with session.get(f"{base}/wallpaper") as answer:
        assert answer.status == 404


async def test_a_visitor_that_hangs_up_ends_what_it_asked_for_without_an_error(served, caplog):
    app, session, base = served
    async with session.get(f"{base}/wall/slow") as answer:
        assert await answer.content.readline() == b"more\n"
    async with asyncio.timeout(10):
        while not app.ended:
            await asyncio.sleep(0.01)
    assert app.ended == ["OSError"]
    await asyncio.sleep(0.05)
    assert not caplog.records


async def test_an_application_that_fails_is_logged_and_the_others_go_on(served, caplog):
    _, session, base = served
    async with session.get(f"{base}/wall/broken") as answer:
        assert answer.status == 500
    assert "ZeroDivisionError" in caplog.text
    async with session.get(f"{base}/wall/") as answer:
        assert answer.status == 201


async def test_what_is_under_way_ends_with_the_server():
    app, port = App(), free_port()
    async with aiohttp.ClientSession() as session:
        async with serving(f"127.0.0.1:{port}", [], pages={"wall": app}):
            answer = await session.get(f"http://127.0.0.1:{port}/wall/slow")
            assert await answer.content.readline() == b"more\n"
        assert app.closed
        assert app.ended == ["http.disconnect"]
        answer.close()


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["nothing"], "unknown page 'nothing'"),
        (["ui", "ui"], "given twice"),
        (["ui:colour=red"], "no option 'colour'"),
        (["ui:actions=maybe"], "must be yes or no"),
    ],
)
def test_pages_that_cannot_be_are_refused_in_one_line(wanted, words):
    with pytest.raises(ConfigError, match=words):
        run_pages.made(wanted, MemoryBackend(), ["mail"], "127.0.0.1:9464")
