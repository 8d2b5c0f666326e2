"""Who may see the pages of promoter_ui and change anything: hosts, the token, sessions, forms."""

from __future__ import annotations

import hashlib
import hmac
import time
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("starlette")
pytest.importorskip("jinja2")
pytest.importorskip("httpx2")

from promoter_core import ConfigError, DelayedQueue
from promoter_core.spi import PageContext
from promoter_memory.backend import MemoryBackend
from promoter_ui import asgi_app, guard
from promoter_ui.page import page
from tests.plugins.ui_pages import TOKEN, Visitor

CANCEL = "act?do=cancel&q=mail&id=x"
PAGES = ("", "leaders", "queue?q=mail", "job?q=mail&id=x", "dead?q=mail", "events?view=overview")


@pytest.fixture
async def backend():
    backend = MemoryBackend()
    await backend.open()
    await DelayedQueue(backend, "mail").schedule({}, delay=600, job_id="x")
    yield backend
    await backend.close()


@asynccontextmanager
async def visited(backend, base="http://localhost/", headers=None, **options):
    app = asgi_app(backend, **options)
    visitor = Visitor(app, base, **(headers or {}))
    try:
        yield visitor
    finally:
        await visitor.aclose()
        await app.aclose()


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "10.0.0.7", "[::1]:80", "a.localhost"])
async def test_a_name_of_this_machine_and_an_address_are_answered(backend, host):
    async with visited(backend) as visitor:
        await visitor.get(host=host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
async def test_another_name_is_refused_in_one_line(backend, host):
    async with visited(backend) as visitor:
        text = await visitor.get(status=403, host=host)
        assert "is not expected here" in text
        assert len(text.splitlines()) == 1


@pytest.mark.parametrize("options", [{"allowed_hosts": ["Ops.Example"]}, {"public": True}, {"trusted": True}])
async def test_another_name_is_answered_where_it_is_allowed(backend, options):
    async with visited(backend, **options) as visitor:
        await visitor.get(host="ops.example:443")


@pytest.mark.parametrize("host", ["x/login?", "x/login#", "x/ui.css?a=", "localhost:80/login?"])
async def test_no_host_stands_for_the_path_that_needs_no_token(backend, host):
    async with visited(backend, token=TOKEN) as visitor:
        for place in PAGES:
            answer = await visitor.http.get(place, headers={"host": host, "accept": "*/*"})
            assert answer.status_code == 401


@pytest.mark.parametrize("place", PAGES)
async def test_every_page_asks_for_the_token(backend, place):
    async with visited(backend, token=TOKEN, base="http://ops.example/") as visitor:
        answer = await visitor.http.get(place)
        assert answer.status_code == (401 if place.startswith("events") else 303)
        if answer.status_code == 303:
            assert answer.headers["location"].startswith("login")
        for wrong in ("Bearer no", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ", "Bearer \xff"):
            answer = await visitor.http.get(place, headers={"authorization": wrong.encode("latin-1"), "accept": "*/*"})
            assert answer.status_code == 401
        if not place.startswith("events"):
            await visitor.get(place, authorization=f"Bearer {TOKEN}")


async def test_signing_in_leads_back_and_lasts_for_hours(backend, monkeypatch):
    async with visited(backend, token=TOKEN) as visitor:
        page = await visitor.get("login?to=job%3Fq%3Dmail%26id%3Dx")
        place = next(form for form in page.forms if form.startswith("login"))
        wrong = await visitor.post(place, {"token": "wrong", "form": page.field("form")}, status=403)
        assert "Wrong token." in wrong.text
        done = await visitor.post(place, {"token": TOKEN, "form": page.field("form")})
        assert done.headers["location"] == "job?q=mail&id=x"
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert TOKEN not in cookie
        await visitor.follow(done)
        kept = {"cookie": cookie.partition(";")[0]}  # by a browser that forgets nothing
        for later_s, status in ((guard.SESSION_S - 60, 200), (guard.SESSION_S + 1, 303)):
            with monkeypatch.context() as patched:
                now_s = time.time() + later_s
                patched.setattr(time, "time", lambda now_s=now_s: now_s)
                assert (await Visitor(visitor.http._transport.app).http.get("", headers=kept)).status_code == status


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "queue/../../x",
        "javascript:alert(1)",
        "job\r\nx: y",
        "logout",
    ],
)
async def test_signing_in_leads_nowhere_else(backend, to):
    from promoter_ui.text import link

    async with visited(backend, token=TOKEN) as visitor:
        page = await visitor.get(link("login", to=to))
        done = await visitor.post(page.forms[0], {"token": TOKEN, "form": page.field("form")})
        assert done.headers["location"] == "./"


async def test_a_session_is_over_after_signing_out_and_holds_for_one_token_only(backend):
    async with visited(backend, token=TOKEN) as visitor:
        await visitor.sign_in()
        page = await visitor.get()
        async with visited(backend, token=TOKEN + "2") as other:
            for name, value in visitor.http.cookies.items():
                other.http.cookies.set(name, value)
            assert (await other.http.get("")).status_code == 303
        async with visited(backend, token=TOKEN) as restarted:  # or another process behind the same proxy
            for name, value in visitor.http.cookies.items():
                restarted.http.cookies.set(name, value)
            await restarted.get()
        await visitor.post("logout", {"form": page.field("form")})
        assert (await visitor.http.get("")).status_code == 303


@pytest.mark.parametrize("cookie", ["", ".", "9999999999.", "9999999999.00", "x.y", "\u00e9.\u00e9"])
async def test_a_made_up_session_is_none(backend, cookie):
    app = asgi_app(backend, token=TOKEN)
    name = app._guard.session_cookie
    visitor = Visitor(app)
    answer = await visitor.http.get("", headers={b"cookie": f"{name}={cookie}".encode()})
    assert answer.status_code == 303
    await visitor.aclose()


@pytest.mark.parametrize("options", [{"token": TOKEN}, {"trusted": True}])
async def test_a_form_of_another_site_changes_nothing(backend, options):
    queue = DelayedQueue(backend, "mail")
    async with visited(backend, allow_actions=True, **options) as visitor:
        if "token" in options:
            await visitor.sign_in()
        form = (await visitor.get("job?q=mail&id=x")).field("form")
        good = {"sure": "on", "form": form}
        for site in ("cross-site", "same-site"):
            await visitor.post(CANCEL, good, status=403, **{"sec-fetch-site": site})
        for bad in ({"sure": "on"}, good | {"form": ""}, good | {"form": "x" * 64}, good | {"form": "\u00e9"}):
            await visitor.post(CANCEL, bad, status=403)
        async with visited(backend, allow_actions=True, **options) as stranger:
            stolen = (await stranger.get("login") if "token" in options else await stranger.get()).fields
            theirs = [field["value"] for field in stolen if field.get("name") == "form"]
            for value in theirs:
                await visitor.post(CANCEL, good | {"form": value}, status=403)
        assert (await queue.stats()).depth == 1
        await visitor.post(CANCEL, good, **{"sec-fetch-site": "same-origin"})
    assert (await queue.stats()).depth == 0


async def test_what_strangers_see_signed_is_slow_to_try_tokens_on(backend):
    async with visited(backend, token=TOKEN) as visitor:
        page = (await visitor.http.get("login")).text
        (nonce,) = [value for name, value in visitor.http.cookies.items() if "form" in name]
        assert nonce not in page
        for words in (["form", nonce], [nonce]):
            assert hmac.new(TOKEN.encode(), "\0".join(words).encode(), hashlib.sha256).hexdigest() not in page


async def test_a_program_with_the_token_needs_no_form(backend):
    async with visited(backend, allow_actions=True, token=TOKEN) as visitor:
        answer = await visitor.post(CANCEL, {"sure": "on"}, authorization=f"Bearer {TOKEN}")
        assert answer.headers["location"] == "queue?q=mail&done=removed"


async def test_a_form_that_is_none_is_refused(backend):
    async with visited(
        backend, allow_actions=True, token=TOKEN, headers={"authorization": f"Bearer {TOKEN}"}
    ) as visitor:
        for body, kind, status in (
            (b"{}", "application/json", 415),
            (b"a=" + b"x" * 100_000, "application/x-www-form-urlencoded", 413),
            (b"&".join(b"a%d=1" % i for i in range(100)), "application/x-www-form-urlencoded", 400),
        ):
            answer = await visitor.http.post(CANCEL, content=body, headers={"content-type": kind})
            assert answer.status_code == status
    assert (await DelayedQueue(backend, "mail").stats()).depth == 1


async def test_a_cookie_is_secure_behind_a_proxy_that_speaks_https(backend):
    async with visited(backend, token=TOKEN) as visitor:
        plain = await visitor.http.get("login")
        secure = await Visitor(asgi_app(backend, token=TOKEN)).http.get("login", headers={"x-forwarded-proto": "https"})
        assert "Secure" not in plain.headers["set-cookie"]
        assert "Secure" in secure.headers["set-cookie"]
        assert "Path" not in secure.headers["set-cookie"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allow_actions": True}, "actions need a token"),
        ({"token": "short"}, "at least 16"),
        ({"token": "with\na-line-break-in-it"}, "printable"),
        ({"token": "not-ascii-\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"}, "ASCII"),
        ({"queues": []}, "no queue is named"),
    ],
)
async def test_what_cannot_be_is_refused_in_one_line(backend, options, words):
    with pytest.raises(ConfigError, match=words):
        asgi_app(backend, **options)


@pytest.mark.parametrize(
    ("host", "options", "words"),
    [
        ("0.0.0.0", {}, "PROMOTER_UI_TOKEN"),
        ("10.0.0.1", {"public": "maybe"}, "public must be yes or no"),
        ("example.com", {"data": "no"}, "reachable from other machines"),
        ("127.0.0.1", {"actions": "yes"}, "actions need a token"),
        ("0.0.0.0", {"actions": "yes", "public": "yes"}, "actions need a token"),
    ],
)
def test_the_page_of_run_is_not_shown_to_others_without_a_token(monkeypatch, host, options, words):
    monkeypatch.delenv("PROMOTER_UI_TOKEN", raising=False)
    context = PageContext(backend=MemoryBackend(), queues=["mail"], host=host)
    with pytest.raises(ConfigError, match=words):
        page(context, **options)


def test_the_page_of_run_takes_its_token_from_the_environment(monkeypatch):
    monkeypatch.setenv("PROMOTER_UI_TOKEN", TOKEN)
    context = PageContext(backend=MemoryBackend(), queues=["mail"], host="0.0.0.0")
    page(context, actions="yes")
    monkeypatch.delenv("PROMOTER_UI_TOKEN")
    page(PageContext(backend=MemoryBackend(), queues=["mail"], host="::1"))
    page(context, public="yes")


async def test_the_page_of_run_says_that_the_store_is_not_open_yet(backend):
    app = page(PageContext(backend=backend, queues=["mail"], host="127.0.0.1"))
    visitor = Visitor(app)
    for place in PAGES:
        assert "has not answered yet" in (await visitor.get(place, status=503)).text
    await visitor.get("ui.css")
    await app.aopen()
    assert "mail" in (await visitor.get()).text
    await visitor.aclose()
    await app.aclose()
