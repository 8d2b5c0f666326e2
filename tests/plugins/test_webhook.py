"""The webhook sink: its contract, what it sends, what becomes of it when the receiver is down, slow or refuses."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from functools import cache

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("standardwebhooks")

from standardwebhooks import Webhook

from promoter_core import ConfigError, DelayedQueue, Promoter, PromoterSettings, Registry
from promoter_core.runner.sink_dispatch import SinkQueue
from promoter_core.spi import JobRequest, PromotedJob, SinkFailure, pack_envelope
from promoter_core.testing import RecordingMetrics, VirtualClock
from promoter_core.testing.conformance import EventSinkContract
from promoter_memory.backend import MemoryBackend
from promoter_webhook.delivery import Answer
from promoter_webhook.sink import WebhookEvents
from tests.plugins.receivers import Receiver

JOB = PromotedJob("a", "welcome", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0")


@pytest.fixture
async def receiver():
    async with Receiver() as receiver:
        yield receiver


class TestWebhook(EventSinkContract):
    @pytest.fixture
    async def sink(self, receiver):
        return Registry().event_sink(f"webhook:url={receiver.url}")

    @pytest.fixture
    def delivered(self, receiver):
        return lambda: [event["data"]["id"] for event in receiver.events]


async def test_a_job_is_a_cloud_event(receiver):
    sink = WebhookEvents(receiver.url)
    await sink.emit("e/mails", (JOB, PromotedJob(None, "", due_ms=1_000, promoted_ms=1_008, stream_id="1008-0")))
    await sink.close()
    ((headers, body),) = receiver.requests
    assert headers["content-type"] == "application/cloudevents-batch+json"
    assert "webhook-signature" not in headers
    first, second = json.loads(body)
    assert first == {
        "specversion": "1.0",
        "id": "1007-0",
        "source": "/promoter/queues/e%2Fmails",
        "type": "promoter.job.waiting",
        "time": "1970-01-01T00:00:01.007+00:00",
        "subject": "a",
        "datacontenttype": "application/json",
        "data": {
            "queue": "e/mails",
            "id": "a",
            "name": "welcome",
            "due_ms": 1_000,
            "promoted_ms": 1_007,
            "stream_id": "1007-0",
        },
    }
    assert "subject" not in second
    assert second["data"]["id"] is None


async def test_a_trace_goes_on_as_the_extension_says(receiver):
    sink = WebhookEvents(receiver.url)
    traced = replace(JOB, traceparent="00-a", tracestate="b=1")
    await sink.emit("mails", (traced, replace(traced, tracestate=""), JOB))
    await sink.close()
    both, one, none = receiver.events
    assert (both["traceparent"], both["tracestate"]) == ("00-a", "b=1")
    assert one["traceparent"] == "00-a"
    assert "tracestate" not in one
    assert "traceparent" not in none


@pytest.mark.parametrize("how", ["secret", "secret_env", "whsec"])
async def test_requests_are_signed(receiver, monkeypatch, how):
    key = b"a very secret key"
    monkeypatch.setenv("HOOK_SECRET", key.decode())
    options = {
        "secret": f"secret={key.decode()}",
        "secret_env": "secret_env=HOOK_SECRET",
        "whsec": f"secret=whsec_{base64.b64encode(key).decode()}",
    }
    sink = Registry().event_sink(f"webhook:url={receiver.url},{options[how]}")
    await sink.emit("q", (JOB,))
    await sink.close()
    ((headers, body),) = receiver.requests
    assert Webhook(key).verify(body, dict(headers))[0]["id"] == JOB.stream_id
    assert headers["webhook-signature"].startswith("v1,")


async def test_events_go_in_batches_and_in_order(receiver):
    sink = WebhookEvents(receiver.url, batch="10")
    for i in range(25):
        await sink.emit("q", (PromotedJob(f"{i}", "", due_ms=1, promoted_ms=2, stream_id=f"2-{i}"),))
    await sink.close()
    assert [event["subject"] for event in receiver.events] == [f"{i}" for i in range(25)]
    assert len(receiver.requests) < 10, "what comes while a request is under way goes together"
    assert max(len(json.loads(body)) for _, body in receiver.requests) <= 10


async def test_it_tries_again_until_the_receiver_is_back():
    clock, sent = VirtualClock(), []
    statuses: list[int | Exception] = [500, OSError("refused"), 429, TimeoutError(), 503, 200]

    async def post(message):
        status = statuses.pop(0)
        sent.append((clock.monotonic(), len(message.events)))
        if isinstance(status, Exception):
            raise status
        return Answer(status)

    sink = WebhookEvents("http://hook", clock=clock, post=post)
    await sink.emit("q", (JOB,))
    await clock.sleep(60)
    assert [at for at, _ in sent] == [0, 0.5, 1.5, 3.5, 7.5, 15.5]
    assert len(sink) == 0
    await sink.close()


async def test_it_goes_on_trying_for_days():
    clock, tries = VirtualClock(), []

    async def dead(message):
        tries.append(clock.monotonic())
        raise OSError("refused")

    sink = WebhookEvents("http://hook", clock=clock, post=dead)
    await sink.emit("q", (JOB,))
    await clock.sleep(2 * 86_400)
    assert 2_800 < len(tries) < 2_900
    assert tries[-1] - tries[-2] == 60
    await sink.close()


async def test_what_the_receiver_refuses_is_dropped_and_counted(receiver, caplog):
    receiver.status = 400
    sink = WebhookEvents(receiver.url)
    await sink.emit("q", (JOB, JOB))
    while sink.refused < 2:
        await asyncio.sleep(0.01)
    assert len(sink) == 0
    assert "answers 400 and refuses 2 events" in caplog.text
    await sink.close()


@cache
def backlog():
    return [JobRequest(f"{i}", pack_envelope(f"{i}", b"", 0, 0), delay_ms=500, index=False) for i in range(50_000)]


async def hour(post, clock, metrics=(), seconds=3_600):
    """An hour (or less) of a job a second and two backlogs of 50,000, by a promoter with this webhook."""
    backend = MemoryBackend(clock=clock)
    await backend.open()
    sink = WebhookEvents("http://hook", clock=clock, post=post)
    queue, recording = DelayedQueue(backend, "q", clock=clock), RecordingMetrics()
    promoter = Promoter(
        backend, "q", PromoterSettings(events=False), events=[sink], metrics=[recording, *metrics], clock=clock
    )
    late_ms = set()
    async with promoter.running():
        for second in range(seconds):
            await queue.schedule("x", delay=0.5, index=False)
            if second in (seconds // 3, seconds * 2 // 3):
                await backend.schedule("q", backlog())
            await clock.sleep(1)
            late_ms |= {tick.promotion.lateness_counts for _, tick in recording.ticks}
            recording.ticks.clear()
        left, dropped = len(sink), promoter.dropped_batches
    return late_ms, left, dropped


@pytest.mark.parametrize(("how", "seconds"), [("down", 3_600), ("slow", 600), ("answers 500", 600)])
async def test_an_hour_of_a_dead_webhook_costs_bounded_memory_and_no_lateness(how, seconds, monkeypatch):
    monkeypatch.setattr(SinkQueue.close, "__defaults__", (0.1,))  # its time at the end is real time
    clock, troubles = VirtualClock(), []

    class Monitor(RecordingMetrics):
        def on_sink_failure(self, sink, trouble):
            troubles.append((sink, trouble))

    async def dead(message):
        if how == "slow":
            await clock.sleep(30)
            raise TimeoutError
        if how == "down":
            raise OSError("connection refused")
        return Answer(500)

    late_ms, left, dropped = await hour(dead, clock, [Monitor()], seconds)
    assert late_ms == {()}, "no job is later than a millisecond"
    assert left <= 1_100
    assert dropped >= 5, "what is behind is bounded"
    assert troubles.count(("WebhookEvents", SinkFailure.DROPPED)) == dropped + 1, "and what is left at the end"


async def test_closing_does_not_wait_for_a_dead_receiver():
    async def dead(message):
        raise OSError("connection refused")

    sink = WebhookEvents("http://hook", clock=VirtualClock(), post=dead)
    await sink.emit("q", (JOB,))
    await asyncio.sleep(0)
    await asyncio.wait_for(sink.close(), 5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "url must be http"),
        ("url=ftp://example.com", "url must be http"),
        ("url=http://x,batch=0", "batch must be a number from 1 to 100000, not '0'"),
        ("url=http://x,timeout_s=soon", "timeout_s must be a number"),
        ("url=http://x,secret=a,secret_env=B", "either secret or secret_env, not both"),
        ("url=http://x,secret_env=NOT_SET_AT_ALL", "environment variable NOT_SET_AT_ALL .* is not set"),
        ("url=http://x,secret=whsec_%%%", "not base64"),
        ("url=http://x,secret=whsec_", "not base64"),
        (
            "url=http://x,retries=3",
            "no option 'retries'.*options are: url, secret, secret_env, batch, buffer, timeout_s",
        ),
    ],
)
def test_an_option_that_cannot_work_is_a_clear_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Registry().event_sink(f"webhook:{options}")
