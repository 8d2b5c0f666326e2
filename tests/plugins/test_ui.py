"""The pages of promoter_ui show what a store has, whatever the names and the data are, and change what they may."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import pytest

from tests.typed import present

pytest.importorskip("starlette")
pytest.importorskip("jinja2")
pytest.importorskip("httpx2")

from promoter_core import ConfigError, DelayedQueue, Job, Promoter
from promoter_core.testing import FaultyBackend
from promoter_memory.backend import MemoryBackend
from promoter_ui import app as ui_app
from promoter_ui import asgi_app, views
from promoter_ui.board import Board
from promoter_ui.render import render
from promoter_ui.text import link
from tests.plugins.ui_pages import TOKEN, Page, Visitor, visit

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><svg onload=alert(1)>",
    "</td></table><a href=javascript:alert(1)>x",
    "{{ 7 * 7 }}{% for x in y %}",
    "a/../../etc?x=1&q=other#y",
    "with space & %2e%2e +",
    "\u202eright to left\u2066",
    "Zürich 東京 🙂",
    "line\nbreak\r\nset-cookie: x=1",
    "\x1b[31mred\x07\x00",
    "not utf-8 \udcff",
]


@pytest.fixture
async def backend():
    backend = MemoryBackend()
    await backend.open()
    yield backend
    await backend.close()


@asynccontextmanager
async def shown(backend, queues="*", **options):
    app, visitor = await visit(backend, queues, **options)
    try:
        yield visitor
    finally:
        await visitor.aclose()
        await app.aclose()


async def test_the_first_page_shows_every_queue_with_its_jobs_and_its_leader(backend):
    await DelayedQueue(backend, "mail").schedule_many([Job(data=i, delay=30 + 40 * i) for i in range(3)])
    await DelayedQueue(backend, "billing").schedule({}, delay=7200)
    async with Promoter(backend, "mail", holder_id="box-1").running(), shown(backend) as visitor:
        page = await visitor.get()
    assert "2 queues" in page.text
    assert re.search(r"billing no leader 1 0 – in 2 h|billing no leader 1 0 – in 1 h 59 min", page.text), page.text
    assert re.search(r"mail 3 0 – in \d+ s 3 (?:–|0) 0 0 box-1", page.text), page.text
    assert "Queues with problems: 1 no leader." in page.text


async def test_a_queue_that_is_late_is_named_so_and_found_by_it(backend):
    await DelayedQueue(backend, "late").schedule({}, delay=0)
    await DelayedQueue(backend, "well").schedule({}, delay=600)
    async with shown(backend) as visitor:
        page = await visitor.get("./?find=LATE")
        assert "late no leader 1 1" in page.text
        assert "well" not in page.text
        page = await visitor.get("./?state=late&find=*")
        assert "No queue matches." in page.text, "it is late by milliseconds only"


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_ids_names_and_data_are_text(backend, name):
    queue = DelayedQueue(backend, "mail")
    await queue.schedule(
        {name.encode("utf-8", "replace").decode(): [name.encode("utf-8", "replace").decode()]}, delay=60
    )
    job = await anext(queue.scan())
    # Another producer's bytes: an id and a name that this library would not make.
    from promoter_core.spi import JobRequest, pack_envelope

    foreign = JobRequest(id=name, envelope=pack_envelope(name, b"\xa1x", 1, 0), name=name, delay_ms=90_000)
    await backend.schedule("mail", [foreign])
    async with shown(backend, allow_actions=True, trusted=True) as visitor:
        page = await visitor.get("queue?q=mail")
        assert all(word.isprintable() or word.isspace() for word in page.text)
        links = [place for place in page.links if place.startswith("job?")]
        assert len(links) == 2
        for place in links:
            shown_job = await visitor.get(place)
            assert "No job with this id" not in shown_job.text
        await visitor.get(link("queue", q="mail", id=name))
        await visitor.get(link("queue", q="mail", name=name))
        page = await visitor.get(link("queue", q="mail", done=name, span=name, after=""))
        assert job.id in page.text
        done = await visitor.post(
            link("act", do="cancel", q="mail", id=name), {"sure": "on", "form": page_form(shown_job)}
        )
        assert "cancelled" in (await visitor.follow(done)).text
    assert await queue.get(name) is None


def page_form(page):
    return page.field("form")


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_of_queues_are_text(backend, name):
    try:
        queue = DelayedQueue(backend, name)
    except ConfigError:
        pytest.skip("no queue can have that name")
    await queue.schedule({}, delay=60, job_id="x")
    async with Promoter(backend, name, holder_id=name).running(), shown(backend) as visitor:
        page = await visitor.get()
        assert "1 queue" in page.text
        place = next(place for place in page.links if place.startswith("queue?"))
        assert "Led by" in (await visitor.get(place)).text
        assert "1 promoter leads 1 queue" in (await visitor.get("leaders")).text
        assert "x" in (await visitor.get(link("job", q=name, id="x"))).text
        await visitor.get(link("./", find=name, leader=name, sort=name, state=name, page=name))
        await visitor.get(link("dead", q=name))


async def test_no_other_queue_is_shown_than_those_that_it_is_for(backend):
    await DelayedQueue(backend, "mail-eu").schedule({}, delay=60, job_id="x")
    await DelayedQueue(backend, "secret").schedule({}, delay=60, job_id="x")
    async with shown(backend, "mail-*", allow_actions=True, trusted=True) as visitor:
        assert "secret" not in (await visitor.get()).text
        for place in ("queue?q=secret", "job?q=secret&id=x", "dead?q=secret", "queue", "queue?q=mail-*"):
            await visitor.get(place, status=400)
        form = (await visitor.get("job?q=mail-eu&id=x")).field("form")
        await visitor.post("act?do=cancel&q=secret&id=x", {"sure": "on", "form": form}, status=400)
    assert await DelayedQueue(backend, "secret").get("x") is not None


async def test_jobs_are_found_by_id_and_by_name_and_come_in_pages(backend):
    queue = DelayedQueue(backend, "mail")
    jobs = [Job(data=i, delay=60 + i, job_id=f"job-{i}", name="odd" if i % 2 else "even") for i in range(120)]
    await queue.schedule_many(jobs)
    async with shown(backend) as visitor:
        seen = []
        place: str | None = "queue?q=mail&name=odd"
        while place:
            page = await visitor.get(place)
            seen += re.findall(r"job-\d+", page.text)
            place = next((p for p in page.links if "after=" in p and p.endswith("#jobs")), None)
        assert seen == [f"job-{i}" for i in range(1, 120, 2)]
        page = await visitor.get("queue?q=mail&id=job-77")
        assert re.findall(r"job-\d+", page.text) == ["job-77"]
        assert "No waiting job matches." in (await visitor.get("queue?q=mail&id=job-777")).text
        await visitor.get("queue?q=mail&after=%F0%9F", status=400)


async def test_a_job_is_shown_with_its_data_unless_that_is_hidden(backend):
    await DelayedQueue(backend, "mail").schedule({"to": "ada@example.com"}, delay=3600, job_id="x", name="welcome")
    for show_data in (True, False):
        async with shown(backend, show_data=show_data) as visitor:
            page = await visitor.get("job?q=mail&id=x")
            assert ("ada@example.com" in page.text) is show_data
            assert "welcome" in page.text
            assert not [form for form in page.forms if form.startswith("act")]


async def test_data_that_is_long_deep_or_no_data_is_shown_as_far_as_it_can_be(backend):
    import msgpack

    from promoter_core.spi import JobRequest, pack_envelope

    deep = b"\x91" * 1000 + b"\xc0"
    payloads = {
        "long": msgpack.packb("x" * 1_000_000),
        "deep": deep,
        "bad": b"\xc1\xff<script>",
        "nan": msgpack.packb(float("nan")),
    }
    await backend.schedule(
        "mail",
        [
            JobRequest(id=id, envelope=pack_envelope(id, data, 10**18, 0), delay_ms=60_000)
            for id, data in payloads.items()
        ],
    )
    async with shown(backend) as visitor:
        assert "characters more" in (await visitor.get("job?q=mail&id=long")).text
        assert "unreadable" in (await visitor.get("job?q=mail&id=bad")).text
        assert "nan" in (await visitor.get("job?q=mail&id=nan")).text
        await visitor.get("job?q=mail&id=deep")


async def test_a_job_without_an_index_that_is_far_behind_is_found_by_its_due_time(backend):
    from promoter_ui import jobs

    class Blind(MemoryBackend):
        async def get_jobs(self, queue, ids):
            return [None for _ in ids]

    blind = Blind()
    await blind.open()
    await DelayedQueue(blind, "mail").schedule({}, delay=60, job_id="x")
    due_ms = (await anext(DelayedQueue(blind, "mail").scan())).stored.due_ms
    assert (await jobs.get(blind, "mail", "x", None))[0] is None
    assert present((await jobs.get(blind, "mail", "x", due_ms))[0]).id == "x"
    assert (await jobs.get(blind, "mail", "x", 10**15))[0] is None


async def test_a_job_is_run_moved_and_cancelled(backend):
    queue = DelayedQueue(backend, "mail")
    await queue.schedule_many([Job(data=id, delay=600, job_id=id) for id in "abc"])
    async with shown(backend, allow_actions=True, token=TOKEN) as visitor:
        await visitor.sign_in()
        form = (await visitor.get("job?q=mail&id=a")).field("form")
        done = await visitor.post("act?do=run&q=mail&id=a", {"sure": "on", "form": form})
        assert "in the stream now" in (await visitor.follow(done)).text
        done = await visitor.post("act?do=reschedule&q=mail&id=b", {"when": "2h", "form": form})
        assert re.search(r"in 2 h|in 1 h 59 min", (await visitor.follow(done)).text)
        done = await visitor.post("act?do=reschedule&q=mail&id=b", {"when": "2090-01-31 09:00", "form": form})
        assert "2090-01-31 09:00:00 UTC" in (await visitor.follow(done)).text
        page = await visitor.post("act?do=reschedule&q=mail&id=b", {"when": "soon<b>", "form": form}, status=400)
        assert "'soon<b>' is not a time" in page.text
        done = await visitor.post("act?do=cancel&q=mail&id=c", {"sure": "on", "form": form})
        assert "cancelled" in (await visitor.follow(done)).text
        done = await visitor.post("act?do=cancel&q=mail&id=c", {"sure": "on", "form": form})
        assert "Nothing was changed" in (await visitor.follow(done)).text
        await visitor.post("act?do=cancel&q=mail&id=b", {"form": form}, status=400)
        await visitor.post("act?do=drop&q=mail&id=b", {"sure": "on", "form": form}, status=404)
    assert (await queue.stats()).stream_len == 1
    assert [job.id async for job in queue.scan()] == ["b"]


async def test_nothing_can_be_changed_unless_it_is_allowed(backend):
    queue = DelayedQueue(backend, "mail")
    await queue.schedule({}, delay=600, job_id="x")
    async with shown(backend, token=TOKEN) as visitor:
        headers = {"authorization": f"Bearer {TOKEN}"}
        for do in ("run", "cancel", "reschedule", "requeue"):
            await visitor.post(f"act?do={do}&q=mail&id=x", {"sure": "on", "when": "1s"}, status=403, **headers)
    assert (await queue.stats()).depth == 1


async def test_a_store_that_fails_is_said_in_one_line_and_the_last_figures_stay():
    inner = MemoryBackend()
    await inner.open()
    await DelayedQueue(inner, "mail").schedule({}, delay=600, job_id="x")
    faulty = FaultyBackend(inner)
    async with shown(faulty) as visitor:
        assert "mail" in (await visitor.get()).text
        faulty.disconnected = True
        page = await visitor.get("job?q=mail&id=x", status=503)
        assert "The store does not answer" in page.text
        page = await visitor.get()
        assert "mail" in page.text
        page = await visitor.get("queue?q=mail", status=503)


async def test_a_page_that_is_not_there_is_said_in_html(backend):
    async with shown(backend) as visitor:
        assert "No such page" in (await visitor.get("nothing", status=404)).text
        await visitor.get("events?view=nothing", status=404)
        await visitor.get("act", status=405)
        await visitor.get("job?q=mail&id=nothing", status=404)
        await visitor.get("?" + "&".join(f"a{i}=1" for i in range(100)), status=400)


async def test_the_store_is_read_while_somebody_looks_and_no_longer(backend):
    await DelayedQueue(backend, "mail").schedule({}, delay=600)
    board = Board(backend, "*", every_s=0.01, idle_s=0.2)
    await board.look()
    assert [queue.name for queue in board.queues()[0]] == ["mail"]
    await present(board._task)
    reads = board.sampler.state().reads
    assert reads > 1
    assert board.trail("mail")
    assert board.trail("")
    await board.look()
    assert not present(board._task).done()
    await board.close()
    assert board.sampler.state().reads > reads


async def test_a_look_at_the_headers_of_the_updates_takes_no_place(backend):
    app = asgi_app(backend, live_s=0.01)
    visitor = Visitor(app, "http://localhost/")
    answer = await asyncio.wait_for(visitor.http.head("events?view=overview"), 20)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    await visitor.aclose()
    await app.aclose()


async def test_a_stream_of_updates_ends_after_a_while_so_that_a_server_can_and_the_visitor_asks_anew(
    backend, monkeypatch
):
    monkeypatch.setattr(ui_app, "STREAM_S", 0.05)
    app = asgi_app(backend, live_s=0.01)
    visitor = Visitor(app, "http://localhost/")
    answer = await asyncio.wait_for(visitor.http.get("events?view=overview"), 20)
    assert answer.text.startswith("data: ")
    assert answer.text.endswith("\n\nevent: again\ndata: \n\n")
    await visitor.aclose()
    await app.aclose()


async def test_a_first_visitor_that_comes_before_the_store_answers_sees_it_soon_after():
    backend = MemoryBackend()
    board = Board(backend, "*", every_s=0.01, idle_s=30)
    await board.look()
    assert board.queues()[0] == []
    await backend.open()
    await DelayedQueue(backend, "mail").schedule({}, delay=600)
    for _ in range(400):
        board._made = None
        if board.queues()[0]:
            break
        await board.clock.sleep(0.01)
    await board.close()
    assert [queue.name for queue in board.queues()[0]] == ["mail"]


async def test_many_queues_come_in_pages_sorted_by_the_server(backend):
    for i in range(120):
        await DelayedQueue(backend, f"q{i:03}").schedule_many([Job(data=0, delay=600)] * (i % 7 + 1))
    async with shown(backend) as visitor:
        page = await visitor.get()
        assert "120 queues , page 1 of 3" in page.text or "120 queues, page 1 of 3" in page.text
        assert len([p for p in page.links if p.startswith("queue?")]) == 50
        page = await visitor.get("./?sort=jobs&order=desc&page=3")
        assert "q000" in page.text
        page = await visitor.get("./?sort=jobs&order=desc")
        assert page.links.index("queue?q=q006") < page.links.index("queue?q=q013")
        assert "No queue matches." in (await visitor.get("./?page=99")).text


async def test_it_is_mounted_in_another_application_at_any_path(backend):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    await DelayedQueue(backend, "mail").schedule({}, delay=600, job_id="x")
    ui = asgi_app(backend, allow_actions=True, token=TOKEN)
    app = Starlette(routes=[Mount("/ops/promoter", app=ui)])
    visitor = Visitor(app, "http://localhost/ops/promoter/")
    await visitor.sign_in()
    page = await visitor.get("job?q=mail&id=x")
    done = await visitor.post("act?do=cancel&q=mail&id=x", {"sure": "on", "form": page.field("form")})
    assert done.headers["location"].startswith("queue?")
    assert "cancelled" in (await visitor.follow(done)).text
    assert "alert" not in (await visitor.get("ui.js"))
    await visitor.aclose()
    await ui.aclose()


async def test_it_shows_how_late_and_how_fast_jobs_are_promoted(backend):
    queue = DelayedQueue(backend, "mail")
    board = Board(backend, "mail", every_s=0.05, idle_s=30)
    async with Promoter(backend, "mail").running():
        await board.look()
        probe = await board.probe("mail")
        await queue.schedule_many([Job(data=i, delay=0.5) for i in range(20)])
        board._probes["mail"] = -10.0, probe
        await board.probe("mail")
        while (await queue.stats()).depth:
            await board.clock.sleep(0.02)
        board._probes["mail"] = -10.0, probe
        params = {"q": "mail"}
        values = await views.queue(board, params)
        assert values["lateness"].jobs == 20
        assert "the last 20 jobs observed" in values["promoted"].summary
        html = render("live_queue", values)
        assert "How late jobs are promoted" in html
        assert not Page(html).wrong
    await board.close()
