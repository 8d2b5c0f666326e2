"""Wrong tokens: how many a visitor may give, and for how long a sign-in lasts."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("jinja2")
pytest.importorskip("httpx2")
import httpx2

from promoter_core import ConfigError
from promoter_core.spi import PageContext
from promoter_memory.backend import MemoryBackend
from promoter_ui import asgi_app, tries
from promoter_ui.page import page
from tests.plugins.ui_pages import TOKEN, Visitor


@pytest.fixture
async def app():
    backend = MemoryBackend()
    await backend.open()
    app = asgi_app(backend, token=TOKEN)
    yield app
    await app.aclose()
    await backend.close()


@pytest.fixture
def now(monkeypatch):
    """The time of the counters, to be moved on."""
    now = [1_000.0]
    monkeypatch.setattr(tries, "monotonic", lambda: now[0])
    return now


def visitor_at(app, address):
    visitor = Visitor(app)
    visitor.http = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app, client=(address, 1)),
        base_url="http://localhost/",
        headers={"accept": "*/*"},
    )
    return visitor


async def wrong_until_refused(visitor, how):
    """The status of each wrong token, up to the first that is not looked at; and that answer."""
    seen: list[int] = []
    while len(seen) < 30:
        if how == "form":
            form = (await visitor.get("login")).field("form")
            answer = await visitor.http.post("login", data={"token": f"wrong {len(seen)}", "form": form})
        else:
            answer = await visitor.http.get("", headers={"authorization": f"Bearer wrong-{len(seen)}"})
        seen.append(answer.status_code)
        if answer.status_code == 429:
            return seen, answer
    raise AssertionError(seen)


@pytest.mark.parametrize("how", ["form", "header"])
async def test_after_ten_wrong_tokens_none_is_looked_at_for_a_while(app, now, how):
    visitor = visitor_at(app, "203.0.113.9")
    seen, answer = await wrong_until_refused(visitor, how)
    assert seen == [403 if how == "form" else 401] * tries.AT_ONCE + [429]
    assert "too many wrong tokens from your address: try again in 6 s" in answer.text
    assert int(answer.headers["retry-after"]) == 6
    form = (await visitor.get("login")).field("form")
    right = {"token": TOKEN, "form": form}
    assert (await visitor.http.post("login", data=right)).status_code == 429
    assert (await visitor.http.get("", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 429
    now[0] += 5.9
    assert (await visitor.http.post("login", data=right)).status_code == 429
    now[0] += 0.2
    assert (await visitor.http.post("login", data=right)).status_code == 303
    await visitor.aclose()


@pytest.mark.parametrize("place", ["", "leaders", "login", "act?do=run&q=mail&id=x", "logout"])
async def test_every_place_that_looks_at_a_token_counts_it_once(app, now, place):
    visitor = visitor_at(app, "203.0.113.9")
    method = "post" if place.startswith(("act", "logout")) else "get"
    headers = {"authorization": "Bearer wrong", "content-type": "application/x-www-form-urlencoded"}
    statuses = [(await visitor.http.request(method, place, headers=headers)).status_code for _ in range(11)]
    assert 429 not in statuses[:-1]
    assert statuses[-1] == 429
    await visitor.aclose()


async def test_other_addresses_sessions_and_right_tokens_are_not_held_up(app, now):
    signed_in, other = visitor_at(app, "203.0.113.9"), visitor_at(app, "198.51.100.7")
    form = (await signed_in.get("login")).field("form")
    assert (await signed_in.http.post("login", data={"token": TOKEN, "form": form})).status_code == 303
    attacker = visitor_at(app, "203.0.113.9")
    await wrong_until_refused(attacker, "form")
    assert (await signed_in.http.get("")).status_code == 200
    for _ in range(30):
        assert (await other.http.get("", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
    for visitor in (signed_in, other, attacker):
        await visitor.aclose()


def test_the_counters_are_as_many_as_ever_and_a_network_has_one():
    counted = tries.Tries()
    for n in range(10_000):
        counted.was_wrong(f"10.0.{n >> 8}.{n & 255}")
    assert len(counted._spent_until_s) == tries.SLOTS
    counted = tries.Tries()
    for n in range(tries.AT_ONCE):
        counted.was_wrong(f"2001:db8::{n:x}")
    assert counted.wait_s("2001:db8::ffff") > 0
    counted.was_wrong("")
    counted.was_wrong("a path")


async def test_a_sign_in_lasts_as_long_as_is_said(monkeypatch):
    backend = MemoryBackend()
    await backend.open()
    monkeypatch.setenv("PROMOTER_UI_TOKEN", TOKEN)
    app = page(PageContext(backend=backend, queues=["mail"], host="127.0.0.1"), session="90")
    await app.aopen()
    visitor = Visitor(app)
    cookie = (await visitor.sign_in()).headers["set-cookie"]
    assert "Max-Age=90" in cookie.split("; ")
    kept = {"cookie": cookie.partition(";")[0]}  # by a browser that forgets nothing
    began_s = time.time()
    for later_s, status in ((80, 200), (91, 303)):
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda later_s=later_s: began_s + later_s)
            assert (await Visitor(app).http.get("", headers=kept)).status_code == status
    await visitor.aclose()
    await app.aclose()
    await backend.close()


@pytest.mark.parametrize("session_s", [0, 59, 366 * 86_400 + 1, float("nan")])
def test_a_sign_in_that_is_too_short_or_too_long_is_refused_in_one_line(session_s):
    with pytest.raises(ConfigError, match="a session lasts a minute to 366 days"):
        asgi_app(MemoryBackend(), token=TOKEN, session_s=session_s)
    with pytest.raises(ConfigError, match="session must be a number from 60 to"):
        page(PageContext(backend=MemoryBackend(), queues=["mail"], host="::1"), session=str(session_s))
