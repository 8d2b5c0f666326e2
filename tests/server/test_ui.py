"""`promoter ui` and `promoter run --page ui` on a real server: by hand, by a program, and in a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")
pytest.importorskip("jinja2")
pytest.importorskip("aiohttp")
pytest.importorskip("httpx2")

from promoter_core import Job, Promoter
from tests import processes
from tests.plugins.ui_pages import TOKEN, visit
from tests.server.test_cli import inspect, promoter, running, until
from tests.server.test_http import get
from tests.servers import Server, free_port

pytestmark = pytest.mark.server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def serving(*arguments, env=None):
    """A running `promoter ui`, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "promoter_core", "ui", *arguments, "--port", str(port)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PROMOTER_")} | (env or {})
    process = processes.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
    try:
        until(lambda: get(port, "/livez")[0] == 200)
        yield process, port
    finally:
        process.kill()
        process.communicate()


def test_it_shows_queues_and_ends_at_a_signal_while_somebody_looks(valkey, name):
    promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", "30m", "{}")
    with serving("--url", valkey.url, "--queue", name) as (process, port):
        until(lambda: name in get(port, "/")[1])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ui/events?view=overview", timeout=10) as events:
            assert name in events.readline().decode()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0


def test_run_serves_it_too_and_asks_for_the_token(valkey, name):
    at, port = ("--url", valkey.url, "--queue", name), free_port()
    promoter("schedule", *at, "--delay", "30m", "--id", "x", "{}")
    with running(*at, "--http", str(port), "--page", f"ui:token={TOKEN},actions=yes") as process:
        until(lambda: get(port, "/readyz")[0] == 200)
        assert "Sign in" in get(port, "/ui/")[1]
        place = f"http://127.0.0.1:{port}/ui/act?do=run&q={urllib.parse.quote(name)}&id=x"
        ask = urllib.request.Request(place, b"sure=on", {"authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(ask, timeout=10) as answer:
            assert "the job is in the stream now" in answer.read().decode().lower() or "/login" in answer.url
        assert inspect(valkey.url, name)["stream_len"] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "set PROMOTER_UI_TOKEN, or make the pages public"),
        (["--allow-actions"], "actions need a token"),
        (["--token", "short"], "at least 16"),
        (["--port", "-1"], "--port must be"),
        (["--queue", ""], "queue"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_served(valkey, arguments, words):
    done = promoter("ui", "--url", valkey.url, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_page_of_run_needs_http_and_a_known_name(valkey, name):
    at = ("--url", valkey.url, "--queue", name)
    done = promoter("run", *at, "--page", "ui")
    assert (done.returncode, "--http HOST:PORT" in done.stderr) == (2, True)
    done = promoter("run", *at, "--http", str(free_port()), "--page", "uii")
    assert (done.returncode, "unknown page 'uii'" in done.stderr) == (2, True)


def test_a_store_that_is_away_at_the_start_and_later_is_waited_for(name):
    with Server("valkey-9.1") as server:
        url, port = server.url, server.port
    with serving("--url", url, "--queue", name) as (_, page):
        until(lambda: "has not answered yet" in get(page, "/ui/")[1])
        with Server("valkey-9.1", port=port):
            promoter("schedule", "--url", url, "--queue", name, "--delay", "30m", "{}")
            until(lambda: re.search(r"<dt>jobs</dt><dd>1</dd>", get(page, "/ui/")[1]), 30)
        until(lambda: "showing the last known figures" in get(page, "/ui/")[1], 30)


async def test_dead_letters_are_shown_and_put_back(backend, client, queue, keys, name):
    from promoter_core.spi import pack_envelope

    await client.zadd(keys.delayed, {b"\xc1<script>alert(1)</script>": 1})
    good = pack_envelope("job-1", b"\xa1x", 1, 0)
    await client.xadd(
        keys.dlq, {"source_id": "delayed", "reason": "<b>bold</b>", "detail": "x", "d": good, "n": "welcome"}
    )
    await Promoter(backend, name).run(until_idle=True)
    app, visitor = await visit(backend, name, allow_actions=True, token=TOKEN)
    await visitor.sign_in()
    page = await visitor.get(f"dead?q={name}")
    assert "<script>alert(1)</script>" in page.text
    assert "<b>bold</b>" in page.text
    (place,) = [form for form in page.forms if form.startswith("act")]
    sent = {"sure": "on", "form": page.field("form")}
    assert "in the stream again" in (await visitor.follow(await visitor.post(place, sent))).text
    assert "no longer exists" in (await visitor.follow(await visitor.post(place, sent))).text
    assert (await queue.stats()).dlq_len == 1
    assert (await queue.stats()).stream_len == 1
    await visitor.aclose()
    await app.aclose()


async def test_dead_letters_come_in_pages(backend, client, keys, name):
    for i in range(120):
        await client.xadd(keys.dlq, {"source_id": "s", "reason": "r", "detail": f"letter-{i:03}", "d": "x"})
    app, visitor = await visit(backend, name)
    seen = []
    place: str | None = f"dead?q={name}"
    while place:
        page = await visitor.get(place)
        seen += re.findall(r"letter-\d+", page.text)
        place = next((p for p in page.links if "after=" in p), None)
    assert seen == [f"letter-{i:03}" for i in range(120)]
    await visitor.aclose()
    await app.aclose()


@pytest.fixture
async def browser():
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: on Debian, apt-get install chromium")
    playwright = pytest.importorskip("playwright.async_api")
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def tab(browser):
    """A tab in which no script failed and no rule of the page's policy was broken."""
    tab = await browser.new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.said = said
    yield tab
    assert said == []


async def test_a_browser_sees_figures_change_and_keeps_its_place(valkey, queue, name, tab):
    await queue.schedule_many([Job(data=i, delay=3600 + i, job_id=f"job-{i}") for i in range(3)])
    hostile = "<img src=x onerror=alert(1)>"
    await queue.schedule({hostile: hostile}, delay=7200, job_id=hostile, name=hostile)
    with serving("--url", valkey.url, "--queue", name) as (_, port):
        await tab.goto(f"http://127.0.0.1:{port}/")
        await tab.get_by_role("status").filter(has_text="live").wait_for()
        link = tab.get_by_role("link", name=name)
        await link.focus()
        row = tab.get_by_role("row").filter(has=link)
        await row.get_by_role("cell").first.filter(has_text="4").wait_for()
        await queue.schedule({}, delay=3600)
        await row.get_by_role("cell").first.filter(has_text="5").wait_for()
        assert await tab.evaluate("document.activeElement.textContent") == name
        await tab.get_by_role("button", name="Pause updates").click()
        await tab.get_by_role("status").filter(has_text="paused").wait_for()
        await link.press("Enter")
        await tab.get_by_role("heading", name=name).wait_for()
        assert await tab.get_by_role("img").first.get_attribute("aria-label") != ""
        await tab.get_by_role("button", name="Resume updates").click()
        details = tab.locator("details")
        await details.locator("summary").click()
        for _ in range(2):
            await queue.schedule({}, delay=3600)
            await tab.locator("dd").first.filter(has_text=str((await queue.stats()).depth)).wait_for()
        assert await details.get_attribute("open") is not None
        await tab.get_by_role("link", name=hostile).click()
        await tab.get_by_role("heading", name=f"Job {hostile}").wait_for()
        await tab.goto("about:blank")


async def test_a_browser_signs_in_and_changes_a_job_by_the_keyboard_alone(valkey, queue, name, tab):
    await queue.schedule({}, delay=3600, job_id="x")
    with serving("--url", valkey.url, "--queue", name, "--allow-actions", env={"PROMOTER_UI_TOKEN": TOKEN}) as (
        _,
        port,
    ):
        await tab.goto(f"http://127.0.0.1:{port}/ui/job?q={name}&id=x")
        await tab.keyboard.type(TOKEN)  # the field has the focus
        await tab.keyboard.press("Enter")
        await tab.get_by_role("heading", name="Job x").wait_for()
        await tab.get_by_label("New due time").focus()
        await tab.keyboard.type("2d")
        await tab.keyboard.press("Enter")
        await tab.get_by_role("status").filter(has_text="new due time").wait_for()
        box = tab.get_by_label("Remove this job")
        await box.focus()
        await tab.keyboard.press("Space")
        await tab.keyboard.press("Enter")
        await tab.get_by_role("status").filter(has_text="cancelled").wait_for()
        await tab.goto("about:blank")
    assert (await queue.stats()).depth == 0


async def test_it_follows_the_darkness_of_the_browser(valkey, name, browser):
    with serving("--url", valkey.url, "--queue", name) as (_, port):
        colors = []
        for scheme in ("light", "dark"):
            tab = await browser.new_page(color_scheme=scheme)
            await tab.goto(f"http://127.0.0.1:{port}/ui/")
            colors.append(await tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colors == ["rgb(255, 255, 255)", "rgb(21, 24, 27)"]
