"""What the helpers of a framework schedule is run by its unmodified consumers, once each and when it is due."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from promoter_core import DelayedQueue, Promoter, connect
from tests.server.bench import until
from tests.server.test_layout_consumers import DELAY_S, VALUES, celery_server, promoting, settled

__all__ = ["celery_server"]

pytestmark = pytest.mark.server


@pytest.fixture
async def own(server):
    async with Redis.from_url(server.url) as client:
        yield client


@pytest.mark.parametrize("kind", ["group", "list"])
async def test_a_delayed_publisher_reaches_a_subscriber_with_headers_and_types(server, kind):
    faststream = pytest.importorskip("faststream.redis")
    from pydantic import BaseModel

    from promoter_layouts.for_faststream import DelayedPublisher

    class Mail(BaseModel):
        to: str
        n: int

    broker, got, times = faststream.RedisBroker(server.url, logger=None), [], []
    where = (
        {"list": "emails"} if kind == "list" else {"stream": faststream.StreamSub("emails", group="g", consumer="c")}
    )

    @broker.subscriber(**where)
    async def handle(mail: Mail, message: faststream.annotations.RedisMessage) -> None:  # type: ignore[name-defined]
        times.append(time.time())
        got.append((mail, message.correlation_id, message.headers["team"], message.content_type))

    async with broker:
        await broker.start()
        await asyncio.sleep(0.3)
        async with promoting(server.url, "faststream-list" if kind == "list" else "faststream", "emails") as queue:
            publisher = DelayedPublisher(broker, queue, headers={"team": "mail"})
            start_s = time.time()
            for n in range(5):
                await publisher.publish(Mail(to="é", n=n), delay=DELAY_S, correlation_id=f"c-{n}", job_id=f"j-{n}")
            await publisher.publish(Mail(to="gone", n=9), delay=DELAY_S, job_id="cancelled")
            assert await queue.cancel("cancelled")
            expected = [(Mail(to="é", n=n), f"c-{n}", "mail", "application/json") for n in range(5)]
            assert sorted(await settled(got, 5), key=lambda one: one[1]) == expected
            assert min(times) - start_s >= DELAY_S


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_scheduled_taskiq_tasks_run_once_with_their_labels(server, own, kind):
    brokers = pytest.importorskip("taskiq_redis")
    from taskiq import Context, TaskiqDepends
    from taskiq.api import run_receiver_task

    from promoter_layouts.for_taskiq import schedule

    make = brokers.ListQueueBroker if kind == "list" else brokers.RedisStreamBroker
    results = brokers.RedisAsyncResultBackend(server.url)
    broker, got = make(server.url, queue_name="tasks").with_result_backend(results), []

    @broker.task(task_name="note", team="mail")
    async def note(value, context=TaskiqDepends(Context)):  # noqa: B008
        got.append(
            (value, context.message.task_id, context.message.labels.get("team"), context.message.labels.get("n"))
        )
        return "done"

    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker))
    try:
        async with promoting(server.url, "taskiq-list" if kind == "list" else "taskiq", "tasks") as queue:
            for n, value in enumerate(VALUES):
                kicker = note.kicker().with_task_id(f"t-{n}").with_labels(n=n)
                await schedule(queue, kicker, value, delay=DELAY_S)
            assert not got
            expected = [(value, f"t-{n}", "mail", n) for n, value in enumerate(VALUES)]
            assert sorted(await settled(got, len(VALUES)), key=lambda one: one[1]) == expected
            assert (await results.get_result("t-0")).return_value == "done"
            if kind == "stream":
                (group,) = await own.xinfo_groups("tasks")
                assert group["pending"] == 0
            else:
                assert await own.llen("tasks") == 0
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await broker.shutdown()


async def test_celery_tasks_run_once_each_with_chains_links_and_priorities(celery_server):
    from celery import chain

    from promoter_layouts.for_celery import apply_async
    from tests.server.layout_tasks import note

    async with (
        Redis.from_url(celery_server.url) as own,
        promoting(celery_server.url, "celery", "celery") as queue,
    ):
        options: dict[str, Any] = {"countdown": 4, "expires": 60}  # longer than the worker's visibility time-out
        await apply_async(queue, note, ["plain"], task_id="plain", **options)
        await apply_async(queue, note.si("first"), link=note.si("linked"), **options)
        await apply_async(queue, chain(note.si("a"), note.si("b"), note.si("c")), **options)
        await apply_async(queue, note, ["cancelled"], task_id="cancelled", **options)
        await apply_async(queue, note, ["late"], countdown=1.5, expires=1)
        assert await queue.cancel("cancelled")
        async with connect(celery_server.url, layout="celery:priority=6") as backend:
            async with Promoter(backend, "celery").running():
                urgent = DelayedQueue(backend, "celery")
                await apply_async(urgent, note, ["urgent"], priority=7, countdown=4)
                expected = ["plain", "first", "linked", "a", "b", "c", "urgent"]
                await asyncio.sleep(2.5)
                assert await own.llen("noted") == 0, "nothing early, and what has expired does not run"
                assert await own.hlen("unacked") == 0, "nothing waits in the worker"

                async def noted():
                    return await own.llen("noted") >= len(expected)

                await until(noted, 40)
                await asyncio.sleep(1)
        got = sorted(text.decode() for text in await own.lrange("noted", 0, -1))
        assert got == sorted(repr(((value,), {})) for value in expected)
        assert await own.hlen("unacked") == 0
