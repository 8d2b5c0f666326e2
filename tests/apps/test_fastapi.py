"""docs/examples/apps/fastapi_app.py."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest

from promoter_core import PermanentError
from promoter_core.sync import DelayedQueue, connect
from promoter_core.testing import FaultyBackend
from promoter_memory.backend import MemoryBackend
from tests import processes
from tests.apps.conftest import APPS, environment, load
from tests.servers import free_port

pytest.importorskip("fastapi")


@pytest.fixture
def site(url, monkeypatch):
    return load("fastapi_app", url, monkeypatch)


@pytest.fixture
def client(site):
    from fastapi.testclient import TestClient

    with TestClient(site.app) as client:  # without the `with`, the lifespan does not run
        yield client


def eventually(question):
    """The first answer that is true; the time is generous."""
    until = time.monotonic() + 60
    while not (answer := question()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return answer


def test_a_mail_is_scheduled_listed_and_cancelled(client):
    made = client.post("/mails", json={"to": "ada@example.com", "delay": 60})
    assert made.status_code == 201
    id = made.json()["id"]
    listed = client.get("/mails")
    assert [(mail["id"], mail["to"]) for mail in listed.json()] == [(id, "ada@example.com")]
    assert listed.headers["X-Next"] == ""
    assert client.delete(f"/mails/{id}").status_code == 204
    assert client.delete(f"/mails/{id}").status_code == 404
    assert client.get("/mails").json() == []


def test_pages_follow_one_another(client):
    for n in range(5):
        client.post("/mails", json={"to": f"{n}@example.com", "delay": 60 + n})
    seen, after = [], ""
    while True:
        page = client.get("/mails", params={"limit": 2, "after": after})
        seen += [mail["to"] for mail in page.json()]
        if not (after := page.headers["X-Next"]):
            break
    assert seen == [f"{n}@example.com" for n in range(5)]


def test_what_cannot_be_scheduled_is_the_clients_error(client):
    assert client.post("/mails", json={"to": "ada@example.com", "delay": -1}).status_code == 422


def test_the_application_promotes_and_is_ready(client):
    eventually(lambda: client.get("/readyz").status_code == 200)
    client.post("/mails", json={"to": "ada@example.com", "delay": 0})
    eventually(lambda: client.get("/mails").json() == [])


def test_a_second_start_in_the_same_process_has_a_loop_of_its_own(site):
    """As tests do, one client after another, each with its own event loop."""
    from fastapi.testclient import TestClient

    for _ in range(3):
        with TestClient(site.app) as client:
            assert client.post("/mails", json={"to": "ada@example.com"}).status_code == 201


class Refusing(MemoryBackend):
    """Its first two promotions fail for good."""

    refuses = 2

    async def promote(self, lease, request):
        if self.refuses:
            self.refuses -= 1
            raise PermanentError("no permission", code="NOPERM")
        return await super().promote(lease, request)


def served_by(backend, monkeypatch):
    site = load("fastapi_app", "memory://", monkeypatch)

    @asynccontextmanager
    async def opened(url):
        await backend.open()
        yield backend
        await backend.close()

    monkeypatch.setattr(site, "connect", opened)
    return site


def test_after_a_permanent_error_the_promoter_starts_again(monkeypatch, caplog):
    from fastapi.testclient import TestClient

    backend = Refusing()
    site = served_by(backend, monkeypatch)
    monkeypatch.setattr(site, "AGAIN_S", 0.01)
    with TestClient(site.app) as client:
        client.post("/mails", json={"to": "ada@example.com", "delay": 0})
        eventually(lambda: client.get("/mails").json() == [])
        eventually(lambda: client.get("/readyz").status_code == 200)
    said = [record.getMessage() for record in caplog.records if record.name == "fastapi_app"]
    assert said == ["the promoter has ended and starts again in 0 s: no permission"] * 2


def test_while_the_promoter_rests_requests_are_answered_and_the_application_ends(monkeypatch):
    from fastapi.testclient import TestClient

    site = served_by(Refusing(), monkeypatch)
    with TestClient(site.app) as client:
        client.post("/mails", json={"to": "ada@example.com", "delay": 0})
        eventually(lambda: site.app.state.promoter.health()[0].state == "stopped")
        assert len(client.get("/mails").json()) == 1


def test_while_the_store_is_away_a_request_is_answered_503_and_repeated_with_its_id(monkeypatch):
    from fastapi.testclient import TestClient

    backend = FaultyBackend(MemoryBackend())
    site = served_by(backend, monkeypatch)
    mail = {"to": "ada@example.com", "id": "ada-1"}
    with TestClient(site.app) as client:
        backend.disconnected = True
        refused = client.post("/mails", json=mail)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        backend.disconnected = False
        for _ in range(2):
            assert client.post("/mails", json=mail).json() == {"id": "ada-1"}
        assert len(client.get("/mails").json()) == 1


def test_without_a_leader_it_is_not_ready_and_says_why(monkeypatch):
    from fastapi.testclient import TestClient

    faulty = FaultyBackend(MemoryBackend())
    site = served_by(faulty, monkeypatch)

    async def away():
        faulty.disconnected = True

    monkeypatch.setattr(faulty, "lock", _fails)
    with TestClient(site.app) as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "never seen to be led" in answer.json()[0]


async def _fails(*_):
    raise PermanentError("no permission", code="NOPERM")


@pytest.mark.server
@pytest.mark.timeout(180)
def test_under_a_web_server_it_promotes_and_releases_its_lock_at_the_end(server):
    pytest.importorskip("uvicorn")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(APPS), "fastapi_app:app", "--port", str(port)]

    def ask(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    with processes.Popen(command, env=environment(server.url), stdout=-1, stderr=subprocess.STDOUT) as site:
        try:
            eventually(lambda: ask("GET", "/readyz") == 200)
            assert ask("POST", "/mails", {"to": "ada@example.com", "delay": 0}) == 201
            with connect(server.url) as backend:
                queue = DelayedQueue(backend, "mails")
                eventually(lambda: queue.stats().stream_len == 1)
                assert queue.stats().holder is not None
                site.send_signal(signal.SIGTERM)
                output, _ = site.communicate(timeout=60)
                assert queue.stats().holder is None
        finally:
            site.kill()
    assert b"Traceback" not in output
