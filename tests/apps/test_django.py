"""docs/examples/apps/django_app.py. Django is set up once in a process, so all tests share its settings."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
import unittest
import urllib.request

import pytest
from ulid import ULID

from promoter_core.sync import DelayedQueue, connect
from tests import processes
from tests.apps.conftest import APPS, environment, load
from tests.servers import free_port

pytest.importorskip("django")
_module = None


@pytest.fixture
def site(url, mails, monkeypatch, tmp_path_factory):
    """The module of the application, its `mails` those of this test."""
    global _module
    if _module is None:
        monkeypatch.setenv("DATABASE", str(tmp_path_factory.mktemp("django") / "mails.sqlite3"))
        _module = load("django_app", f"memory://{ULID()}", monkeypatch)
        _module.create_tables()
    monkeypatch.setitem(sys.modules, "django_app", _module)
    monkeypatch.setattr(_module, "mails", mails)
    yield _module
    _module.User.objects.all().delete()
    _module.connection.close()


@pytest.fixture
def client(site):
    from django.test import Client

    return Client()


def sign_up(client, email):
    return client.post("/sign-up", data={"email": email}, content_type="application/json")


def test_a_sign_up_schedules_a_mail_that_is_listed_and_cancelled(client):
    made = sign_up(client, "ada@example.com")
    assert made.status_code == 201
    (mail,) = client.get("/mails").json()["mails"]
    assert (mail["id"], mail["user"]) == (made.json()["job"], made.json()["user"])
    assert client.delete(f"/mails/{mail['id']}").status_code == 204
    assert client.delete(f"/mails/{mail['id']}").status_code == 404
    assert client.get("/mails").json() == {"mails": [], "next": ""}


def test_a_sign_up_that_is_rolled_back_schedules_nothing(client, site, mails):
    assert sign_up(client, "ada@example.invalid").status_code == 400
    assert not site.User.objects.exists()
    assert mails.stats().depth == 0


def test_nothing_is_scheduled_before_the_commit(client, site, mails, monkeypatch):
    seen = []
    monkeypatch.setattr(site.transaction, "on_commit", lambda function: seen.append((mails.stats().depth, function)))
    sign_up(client, "ada@example.com")
    ((depth, function),) = seen
    assert depth == 0
    function()
    assert mails.stats().depth == 1


def test_inside_djangos_testcase_the_callbacks_are_run_on_request(site, mails):
    from django.test import TestCase

    class Case(TestCase):
        def test_sign_up(self):
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                sign_up(self.client, "ada@example.com")
                assert mails.stats().depth == 0
            assert (len(callbacks), mails.stats().depth) == (1, 1)

    from django.test.utils import setup_test_environment, teardown_test_environment

    setup_test_environment(debug=False)
    try:
        result = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.TestSuite([Case("test_sign_up")]))
    finally:
        teardown_test_environment()
    assert result.wasSuccessful(), result.failures + result.errors


def test_a_queryset_is_read_in_the_thread_of_its_connection(site, mails):
    from promoter_core import Job

    site.User.objects.bulk_create(site.User(email=f"{n}@example.com") for n in range(5))
    jobs = (Job(data={"user": user.pk}, delay=60) for user in site.User.objects.iterator())
    assert len(mails.schedule_many(jobs)) == 5


def test_an_asynchronous_view_gets_an_error_that_names_the_asynchronous_queue(site, mails):
    from asgiref.sync import async_to_sync, sync_to_async

    async def view():
        with pytest.raises(Exception, match=r"promoter_core.DelayedQueue"):
            mails.stats()
        return await sync_to_async(mails.stats)()

    assert async_to_sync(view)().depth == 0


@pytest.mark.server
@pytest.mark.timeout(180)
def test_runserver_with_its_reloader_schedules_once_and_connects_at_the_first_call(server, tmp_path):
    env = environment(server.url, DATABASE=str(tmp_path / "mails.sqlite3"))
    app = [sys.executable, str(APPS / "django_app.py")]
    processes.run([*app, "migrate"], env=env, check=True, timeout=60)
    port = free_port()
    with processes.Popen([*app, "runserver", str(port)], env=env, start_new_session=True, stderr=-1, stdout=-1) as site:
        try:
            answer = post(f"http://127.0.0.1:{port}/sign-up", b'{"email": "ada@example.com"}', server)
            assert b"welcome-1" in answer
        finally:
            os.killpg(site.pid, signal.SIGINT)
            site.communicate(timeout=60)
    with connect(server.url) as backend:
        assert DelayedQueue(backend, "welcomes").stats().depth == 1


def post(url, body, server):
    until = time.monotonic() + 60
    while True:
        clients = server.ask("CLIENT", "LIST").count(b" addr=")
        try:
            return urllib.request.urlopen(url, body, timeout=30).read()
        except OSError:
            assert clients == 1, "only our own question: nothing connects before the first request"
            assert time.monotonic() < until
            time.sleep(0.1)
