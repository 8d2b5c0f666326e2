"""Events whose receiver, a real one, fails, refuses or asks to wait; and a second run."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import time
from email.utils import formatdate

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("standardwebhooks")

from standardwebhooks import Webhook

from promoter_core import DelayedQueue, Promoter
from promoter_core.spi import PromotedJob, SinkFailure, SystemClock
from promoter_core.testing import RecordingMetrics
from promoter_memory.backend import MemoryBackend
from promoter_webhook.delivery import LONGEST_RETRY_AFTER_S, Answer, Delivery
from promoter_webhook.events import retry_after_s
from promoter_webhook.sink import WebhookEvents
from tests.plugins.receivers import FastClock, Raw, Receiver, until
from tests.servers import free_port

JOB = PromotedJob("a", "welcome", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0")


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="closes without an answer"),
        pytest.param(b"\x00\xffgarbage\r\n\r\n", id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="closes amid the headers"),
        pytest.param(b"HTTP/1.1 99999 Odd\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\nab", id="closes amid the body of a 500"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="another protocol"),
        pytest.param(None, id="no answer in time"),
    ],
)
async def test_a_receiver_that_fails_in_any_way_is_tried_again(reply, caplog):
    troubles: list[SinkFailure] = []
    async with Raw(reply) as server:
        sink = WebhookEvents(server.url, timeout_s="1", clock=FastClock())
        sink.report_to(troubles.append)
        await sink.emit("q", (JOB,))
        await until(lambda: server.bodies)
        await sink.emit("q", (JOB,))
        await until(lambda: len(server.bodies) == 2)
        await sink.close()
    assert troubles == []
    assert caplog.text.count("the receiver cannot be reached") + caplog.text.count("the receiver answers 500") == 1
    assert "/hook" not in caplog.text, "the path of a URL may be a secret"


@pytest.fixture
def certificate(tmp_path):
    """A server's TLS with a certificate that nobody trusts."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize(
    ("url", "tls"), [("https", False), ("http", True), ("https", True)], ids=["no TLS", "TLS", "untrusted"]
)
async def test_a_mismatch_of_tls_is_a_failed_try(url, tls, certificate, caplog):
    async def take(reader, writer):
        with contextlib.suppress(OSError):
            await reader.read(100)
        writer.close()

    port, clock = free_port(), FastClock()
    server = await asyncio.start_server(take, "127.0.0.1", port, ssl=certificate if tls else None)
    sink = WebhookEvents(f"{url}://127.0.0.1:{port}/", clock=clock)
    await sink.emit("q", (JOB,))
    await until(lambda: len(clock.slept) >= 4)
    assert len(sink) == 1, "it is kept"
    assert "the receiver cannot be reached" in caplog.text
    await sink.close()
    server.close()


async def test_a_receiver_that_is_not_there_yet_gets_everything_later():
    receiver = Receiver()
    sink = WebhookEvents(receiver.url, clock=FastClock(), batch="2")
    for i in range(5):
        await sink.emit("q", (PromotedJob(f"{i}", "", due_ms=1, promoted_ms=2, stream_id=f"2-{i}"),))
    await asyncio.sleep(0.1)
    async with receiver:
        await until(lambda: len(receiver.events) == 5)
        await sink.close()
    assert [event["subject"] for event in receiver.events] == ["0", "1", "2", "3", "4"]


async def test_all_tries_of_a_message_have_one_id_and_one_body(receiver):
    receiver.first = [500, 503, 429]
    sink = WebhookEvents(receiver.url, clock=FastClock(), secret="s3cret")
    for i in range(5):  # what comes while the first fails is another message
        await sink.emit("q", (PromotedJob(f"{i}", "", due_ms=1, promoted_ms=2, stream_id=f"2-{i}"),))
        await until(lambda i=i: len(receiver.tries) > min(i, 3))
    await sink.close()
    first, *others = dict.fromkeys(receiver.tries)
    assert receiver.tries[:4] == [first] * 4
    assert len({id for id, _ in [first, *others]}) == 1 + len(others) >= 2, "another message has another id"
    for headers, body in receiver.requests:
        Webhook(b"s3cret").verify(body, dict(headers))


@pytest.mark.parametrize("status", [302, 307, 400, 401, 404, 422])
async def test_what_is_refused_reaches_the_log_and_the_metrics(receiver, status, caplog):
    receiver.first = [(status, {"Location": receiver.url})]
    troubles = []

    class Monitor(RecordingMetrics):
        def on_sink_failure(self, sink, trouble):
            troubles.append((sink, trouble))

    async with served(WebhookEvents(receiver.url), [Monitor()]) as queue:
        await queue.schedule("refused", delay=0.001, job_id="refused")
        await until(lambda: receiver.tries)
        await queue.schedule("taken", delay=0.001, job_id="taken")
        await until(lambda: receiver.requests)
    assert troubles == [("WebhookEvents", SinkFailure.REFUSED)]
    assert f"answers {status} and refuses 1 events" in caplog.text
    assert [event["subject"] for event in receiver.events] == ["taken"]


@contextlib.asynccontextmanager
async def served(sink, metrics=()):
    """A promoter with this sink; gives its queue."""
    backend = MemoryBackend()
    await backend.open()
    promoter = Promoter(backend, "q", events=[sink], metrics=metrics)
    async with promoter.running():
        yield DelayedQueue(backend, "q")


async def test_gone_ends_the_deliveries_until_the_next_run(receiver, caplog):
    receiver.first = [410]
    sink = WebhookEvents(receiver.url, batch="1")
    troubles: list[SinkFailure] = []
    sink.report_to(troubles.append)
    await sink.emit("q", (JOB, JOB, JOB))
    await until(lambda: sink.refused == 3)
    await sink.emit("q", (JOB,))
    assert (sink.refused, len(sink), len(receiver.tries)) == (4, 0, 1)
    assert troubles == [SinkFailure.REFUSED] * 4
    assert "answers 410 and refuses 1 events, 1 so far, which are dropped; nothing more is sent" in caplog.text
    await sink.close()
    await sink.emit("q", (JOB,))
    await sink.close()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("asked", ["7", "date"])
@pytest.mark.parametrize("status", [429, 503])
async def test_it_waits_for_as_long_as_the_receiver_asks(receiver, status, asked):
    skewed = time.time() - 86_400  # the receiver's clock is a day slow
    date = {"Date": formatdate(skewed, usegmt=True), "Retry-After": formatdate(skewed + 7, usegmt=True)}
    receiver.first = [(status, {"Retry-After": asked} if asked == "7" else date), status]
    clock = FastClock()
    sink = WebhookEvents(receiver.url, clock=clock)
    await sink.emit("q", (JOB,))
    await until(lambda: receiver.requests)
    await sink.close()
    assert clock.slept == [7, 1]


async def test_what_a_receiver_asks_for_is_bounded(receiver):
    receiver.first = [(429, {"Retry-After": "99999999999999999999"})]
    clock = FastClock()
    sink = WebhookEvents(receiver.url, clock=clock)
    await sink.emit("q", (JOB,))
    await until(lambda: clock.slept)
    assert clock.slept == [LONGEST_RETRY_AFTER_S]
    await sink.close()
    assert len(receiver.requests) == 1, "closing does not wait for it, and tries once more"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("120", 120),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30),
        ("Wed, 99 Oct 2015 07:28:30 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    now_ms = 1_445_412_480_000  # 07:28:00
    assert retry_after_s({} if value is None else {"retry-after": value}, now_ms) == seconds


async def test_a_delivery_that_has_died_is_started_again(caplog):
    posted = []
    troubles: list[SinkFailure] = []

    async def post(message):
        posted.append(message)
        if len(posted) == 1:
            await asyncio.Event().wait()
        return Answer(204)

    delivery = Delivery(post, SystemClock(), batch=1, buffer=2)
    delivery.report = troubles.append
    await delivery.add(["a", "b"])
    await until(lambda: posted)
    waiting = asyncio.create_task(delivery.add(["c"]))  # there is no room
    await asyncio.sleep(0.01)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "promoter-webhook"]
    task.cancel()
    await asyncio.wait_for(waiting, 5)
    await delivery.close()
    assert [message.events for message in posted] == [("a",), ("a",), ("b",), ("c",)]
    assert posted[0] is posted[1], "the same message, so the same id"
    assert troubles == [SinkFailure.FAILED]
    assert "the delivery has ended and is started again" in caplog.text


@pytest.mark.parametrize("exc", [RuntimeError("odd"), asyncio.CancelledError(), ValueError("bad url"), KeyError()])
async def test_whatever_a_post_raises_is_a_failed_try(exc):
    posted = []

    async def post(message):
        posted.append(message)
        if len(posted) == 1:
            raise exc
        return Answer(204)

    sink = WebhookEvents("http://hook", clock=FastClock(), post=post)
    await sink.emit("q", (JOB,))
    await until(lambda: len(posted) == 2)
    await sink.close()


def test_a_second_run_on_another_loop_posts_everything():
    posted: list[str] = []

    async def post(message):
        posted.extend(event["subject"] for event in message.events)
        return Answer(204)

    sink = WebhookEvents("http://hook", post=post)

    async def run(number):
        async with served(sink) as queue:
            for i in range(4):
                await queue.schedule(i, delay=0.001, job_id=f"{number}-{i}")
                await asyncio.sleep(0.02)
            await until(lambda: len(posted) == 4 * (number + 1))

    for number in range(3):
        asyncio.run(run(number))
    assert posted == [f"{number}-{i}" for number in range(3) for i in range(4)]


async def test_what_is_lost_at_the_end_is_reported(caplog):
    async def dead(message):
        raise OSError("connection refused")

    sink = WebhookEvents("http://hook", post=dead)
    troubles: list[SinkFailure] = []
    sink.report_to(troubles.append)
    await sink.emit("q", (JOB, JOB))
    await asyncio.sleep(0.05)
    await sink.close()
    assert troubles == [SinkFailure.DROPPED]
    assert "2 events that could not be delivered are lost" in caplog.text
    assert len(sink) == 0
