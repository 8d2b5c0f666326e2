"""The pubsub sink passes its contract on a real server, and who listens hears of every job."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis.asyncio import Redis

from promoter_core import ConfigError, Registry
from promoter_core.spi import PromotedJob
from promoter_core.testing.conformance import EventSinkContract
from tests.servers import free_port

pytestmark = pytest.mark.server


class TestPubSub(EventSinkContract):
    @pytest.fixture
    def sink(self, valkey):
        return Registry().event_sink(f"pubsub:url={valkey.url}")

    @pytest.fixture
    async def delivered(self, valkey):
        async with Redis.from_url(valkey.url) as client, client.pubsub() as listening:
            await listening.subscribe("promoter:q")
            await listening.get_message(timeout=5)
            ids = []

            async def heard():
                while (message := await listening.get_message(timeout=0.5)) is not None:
                    ids.append(json.loads(message["data"])["id"])
                return ids

            yield heard


async def test_a_message_a_job(valkey):
    sink = Registry().event_sink(f"pubsub:url={valkey.url},channel=jobs/{{queue}}")
    async with Redis.from_url(valkey.url) as client, client.pubsub() as listening:
        await listening.subscribe("jobs/mails")
        await listening.get_message(timeout=5)
        await sink.emit(
            "mails",
            (
                PromotedJob(
                    "a", "n", due_ms=1_000, promoted_ms=1_007, stream_id="1007-0", traceparent="00-a", tracestate="b=1"
                ),
                PromotedJob(None, "", due_ms=1, promoted_ms=2, stream_id="2-0"),
            ),
        )
        first = json.loads((await listening.get_message(timeout=5))["data"])
        second = json.loads((await listening.get_message(timeout=5))["data"])
    assert first == {
        "event": "waiting",
        "queue": "mails",
        "id": "a",
        "name": "n",
        "due_ms": 1_000,
        "promoted_ms": 1_007,
        "stream_id": "1007-0",
        "traceparent": "00-a",
        "tracestate": "b=1",
    }
    assert second["id"] is None
    assert "traceparent" not in second
    await sink.close()


async def test_a_server_that_is_away_is_the_sinks_own_trouble():
    sink = Registry().event_sink(f"pubsub:url=redis://127.0.0.1:{free_port()}")
    with pytest.raises(Exception, match=r"Error .*connecting|Connect call failed"):
        await sink.emit(
            "q", (PromotedJob("a", "", due_ms=1, promoted_ms=2, stream_id="2-0"),)
        )  # the core logs it and goes on
    await sink.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "url must be that of a server, as pubsub:url=redis://localhost:6379"),
        ("url=http://x", "url must be that of a server"),
        ("url=redis://x,channel=jobs-{job}", r"only \{queue\} is a placeholder"),
        ("url=redis://x,topic=a", "no option 'topic'.*options are: url, channel"),
    ],
)
def test_an_option_that_cannot_work_is_a_clear_error(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Registry().event_sink(f"pubsub:{options}")


def test_a_second_run_may_be_on_another_event_loop(valkey):
    sink = Registry().event_sink(f"pubsub:url={valkey.url},channel=jobs/again")

    async def run(number):
        async with Redis.from_url(valkey.url) as client, client.pubsub() as listening:
            await listening.subscribe("jobs/again")
            await listening.get_message(timeout=5)
            await asyncio.gather(
                *(
                    sink.emit("q", (PromotedJob(f"{number}", "", due_ms=1, promoted_ms=2, stream_id=f"{i}-0"),))
                    for i in range(5)
                )
            )
            await sink.close()
            return [json.loads((await listening.get_message(timeout=5))["data"])["id"] for _ in range(5)]

    assert [asyncio.run(run(number)) for number in range(3)] == [[f"{number}"] * 5 for number in range(3)]
