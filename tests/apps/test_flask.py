"""docs/examples/apps/flask_app.py."""

from __future__ import annotations

import pytest

from promoter_core import TransientError
from promoter_core.testing import FaultyBackend
from promoter_memory.backend import MemoryBackend
from tests.apps.conftest import load

pytest.importorskip("flask")


@pytest.fixture
def client(url, monkeypatch):
    module = load("flask_app", url, monkeypatch)
    yield module.app.test_client()
    module.backend.close()


def test_a_mail_is_scheduled_listed_and_cancelled(client):
    made = client.post("/mails", json={"to": "ada@example.com", "delay": 60})
    assert made.status_code == 201
    id = made.json["id"]
    listed = client.get("/mails").json
    assert [(mail["id"], mail["to"]) for mail in listed["mails"]] == [(id, "ada@example.com")]
    assert listed["mails"][0]["due"].endswith("+00:00")
    assert listed["next"] == ""
    assert client.delete(f"/mails/{id}").status_code == 204
    assert client.delete(f"/mails/{id}").status_code == 404
    assert client.get("/mails").json["mails"] == []


def test_a_request_that_is_sent_again_is_one_mail(client):
    send = {"json": {"to": "ada@example.com"}, "headers": {"Idempotency-Key": "k-1"}}
    answers = [client.post("/mails", **send) for _ in range(2)]
    assert [(a.status_code, a.json["id"]) for a in answers] == [(201, "k-1"), (200, "k-1")]


def test_pages_follow_one_another(client):
    for n in range(60):
        client.post("/mails", json={"to": f"{n}@example.com", "delay": 60 + n})
    first = client.get("/mails").json
    second = client.get("/mails", query_string={"after": first["next"]}).json
    assert [mail["to"] for mail in first["mails"] + second["mails"]] == [f"{n}@example.com" for n in range(60)]


def test_what_cannot_be_scheduled_is_the_clients_error(client):
    answer = client.post("/mails", json={"to": "ada@example.com", "delay": -1})
    assert answer.status_code == 400
    assert "out of range" in answer.json["error"]


def test_a_store_that_is_away_is_no_server_error(monkeypatch):
    module = load("flask_app", "memory://", monkeypatch)
    faulty = FaultyBackend(MemoryBackend())
    faulty.disconnected = True
    monkeypatch.setattr(module.backend, "_session", type(module.backend._session)(faulty))
    with pytest.raises(TransientError):
        module.mails.stats()
    answer = module.app.test_client().get("/mails")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
