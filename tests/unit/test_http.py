"""The pages of `promoter run --http`: what takes long to make holds up nobody."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest

from promoter_core import DelayedQueue, Health
from promoter_core.monitor import Sampler
from promoter_core.web.server import serving
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped

aiohttp = pytest.importorskip("aiohttp")
LONG_S = 0.5


class Runner:
    """A promoter whose pages take long to make, on whatever thread they are made."""

    dropped_batches = 0

    def __init__(self, long_s=LONG_S):
        self.long_s = long_s
        self.calls = 0
        self.at_once = self.most_at_once = 0
        self.threads = set()
        self.error = None

    def _long(self):
        self.calls += 1
        self.threads.add(threading.current_thread())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.long_s)
        self.at_once -= 1
        if self.error is not None:
            raise self.error

    def exposition(self):
        self._long()
        return f"page {self.calls}\n".encode(), "text/plain; version=0.0.4"

    def health(self):
        self._long()
        return [
            Health(queue=f"q{i}", state="leader", leads=True, last_tick_age_s=0.1, led_age_s=0.1, last_error=None)
            for i in range(3)
        ]

    def unready(self):
        self._long()
        return []


@pytest.fixture
async def served(unused_port):
    runner = Runner()
    async with serving(f"127.0.0.1:{unused_port}", [untyped(runner)]), aiohttp.ClientSession() as session:

        async def get(path):
            async with session.get(f"http://127.0.0.1:{unused_port}{path}") as answer:
                return answer.status, await answer.text()

        yield runner, get


@pytest.fixture
def unused_port():
    from tests.servers import free_port

    return free_port()


@pytest.mark.parametrize("path", ["/metrics", "/status", "/readyz"])
async def test_the_event_loop_goes_on_while_a_page_is_made(served, path):
    runner, get = served
    page = asyncio.create_task(get(path))
    while not runner.at_once:
        await asyncio.sleep(0.001)
    began_s = time.monotonic()
    assert await get("/livez") == (200, "ok\n")
    assert runner.at_once, f"/livez took {time.monotonic() - began_s:.3f} s: it has waited for {path}"
    assert (await page)[0] == 200
    assert threading.current_thread() not in runner.threads


async def test_many_scrapes_at_once_cost_one_page(served):
    runner, get = served
    pages = await asyncio.gather(*(get("/metrics") for _ in range(20)))
    assert {status for status, _ in pages} == {200}
    assert (runner.calls, runner.most_at_once) == (1, 1)


async def test_a_page_that_takes_long_is_kept_for_a_while_and_one_that_does_not_is_new(served):
    runner, get = served
    began_s = time.monotonic()
    first = await get("/metrics")
    if time.monotonic() - began_s < 2 * LONG_S:
        assert await get("/metrics") == first
    runner.long_s = 0
    while await get("/metrics") == first:
        assert time.monotonic() - began_s < 60
        await asyncio.sleep(0.05)
    assert time.monotonic() - began_s >= 3 * LONG_S, "a quarter of the time at most is spent on pages"
    await asyncio.sleep(0.5)
    new = await get("/metrics")
    async with asyncio.timeout(60):  # on a busy machine any page may take long once
        while await get("/metrics") == new:
            await asyncio.sleep(0.5)


async def test_who_hangs_up_does_not_take_the_page_from_the_others(served):
    runner, get = served
    first, second = asyncio.create_task(get("/metrics")), asyncio.create_task(get("/metrics"))
    while not runner.at_once:
        await asyncio.sleep(0.001)
    first.cancel()
    assert await second == (200, "page 1\n")


async def test_a_sink_that_fails_is_an_error_of_its_page_alone(served, caplog):
    runner, get = served
    runner.long_s, runner.error = 0, RuntimeError("broken")
    status, text = await get("/metrics")
    assert (status, text) == (500, "the metrics sink failed: RuntimeError('broken')\n")
    assert (await get("/livez"))[0] == 200
    runner.error = None
    await asyncio.sleep(0.5)
    assert (await get("/metrics"))[0] == 200
    status = json.loads((await get("/status"))[1])
    assert [q["queue"] for q in status["queues"]] == ["q0", "q1", "q2"]
    assert status["leads"] == 3


@pytest.mark.parametrize(
    ("runners", "pages", "named"),
    [
        ([Runner(0)], {}, "/metrics /livez /readyz /status"),
        ([], {}, "/metrics /livez /readyz"),
        ([Runner(0)], {"ui": None}, "/metrics /livez /readyz /status /ui/"),
    ],
)
async def test_the_root_names_the_pages_and_so_does_a_path_that_there_is_not(runners, pages, named):
    async with serving(":0", runners, pages=untyped(pages)) as at, aiohttp.ClientSession(at) as session:
        assert at.startswith("http://127.0.0.1:")
        async with session.get("/") as answer:
            assert (answer.status, await answer.text()) == (200, f"Promoter's pages: {named}\n")
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.text()) == (404, f"404: Not Found. Promoter's pages: {named}\n")
        async with session.post("/livez") as answer:
            assert answer.status == 405


@pytest.mark.parametrize("runners", [[], [Runner(0)]])
async def test_a_samplers_figures_are_on_the_page_too(runners, unused_port):
    backend = MemoryBackend()
    await backend.open()
    await DelayedQueue(backend, "emails").schedule("x", delay=60)
    sampler = Sampler(backend)
    async with (
        serving(f"127.0.0.1:{unused_port}", runners, sampler=sampler),
        aiohttp.ClientSession(f"http://127.0.0.1:{unused_port}") as session,
    ):
        async with session.get("/readyz") as answer:
            assert answer.status == (200 if runners else 503)
        async with session.get("/status") as answer:
            assert answer.status == (200 if runners else 404)
        async with sampler.running():
            while sampler.state().last_read_s is None:
                await asyncio.sleep(0.01)
            async with session.get("/metrics") as answer:
                page = await answer.text()
            assert 'promoter_store_delayed_jobs{queue="emails"} 1.0' in page
            assert page.startswith("page ") is bool(runners)
            status = 0
            while status != 200:  # the answer of before may be kept for a while
                async with session.get("/readyz") as answer:
                    status = answer.status
