"""Unmodified consumers of other frameworks get the jobs that layouts deliver, each once and as it was sent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from promoter_core import ConfigError, DelayedQueue, Promoter, connect
from tests.conftest import start_or_skip
from tests.server.bench import until

pytestmark = pytest.mark.server

VALUES = [[], {}, 2**53 + 1, "é\0", {"n": [None, 1.5, True], "": ""}, "x" * 100_000]
DELAY_S = 0.3


@pytest.fixture
async def own(server):
    async with Redis.from_url(server.url) as client:
        yield client


@asynccontextmanager
async def promoting(url, layout, queue):
    async with connect(url, layout=layout) as backend:
        async with Promoter(backend, queue).running():
            yield DelayedQueue(backend, queue)


async def settled(got, count):
    """What has come, some time after all of it has."""
    await until(lambda: len(got) >= count)
    await asyncio.sleep(0.3)
    return list(got)


@pytest.mark.parametrize("kind", ["stream", "group", "list"])
async def test_a_faststream_subscriber_gets_each_message_once(server, own, kind):
    faststream = pytest.importorskip("faststream.redis")
    broker, got = faststream.RedisBroker(server.url, logger=None), []
    where = {"list": "emails"} if kind == "list" else {"stream": "emails"}
    if kind == "group":
        where = {"stream": faststream.StreamSub("emails", group="g", consumer="c")}

    @broker.subscriber(**where)
    async def handle(body: Any, message: faststream.annotations.RedisMessage) -> None:  # type: ignore[name-defined]
        got.append((body, message.body))

    async with broker:
        await broker.start()
        await asyncio.sleep(0.3)
        layout = "faststream-list" if kind == "list" else "faststream"
        async with promoting(server.url, layout, "emails") as queue:
            while not got:  # a subscriber without a group misses what comes between its first reads
                await queue.schedule({"value": "first"})
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.1)
            got.clear()
            for value in VALUES:
                await queue.schedule({"value": value}, delay=DELAY_S)
            assert not got
            bodies = [body["value"] for body, _ in await settled(got, len(VALUES))]
            assert sorted(map(repr, bodies)) == sorted(map(repr, VALUES))
            if kind == "group":
                assert (await own.xpending("emails", "g"))["pending"] == 0
            assert (await queue.stats()).depth == 0


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_a_taskiq_worker_runs_each_task_once(server, own, kind):
    brokers = pytest.importorskip("taskiq_redis")
    from taskiq.api import run_receiver_task

    from promoter_layouts.for_taskiq import message

    make = brokers.ListQueueBroker if kind == "list" else brokers.RedisStreamBroker
    broker, got = make(server.url, queue_name="tasks"), []

    @broker.task(task_name="note")
    async def note(value, *, more=None):
        got.append((value, more))

    await broker.startup()
    worker = asyncio.create_task(run_receiver_task(broker))
    try:
        async with promoting(server.url, "taskiq-list" if kind == "list" else "taskiq", "tasks") as queue:
            sent = [await message(note, value, more=value) for value in VALUES]
            assert await own.type("tasks") != b"list"
            for payload in sent:
                await queue.schedule(payload, delay=DELAY_S)
            await queue.schedule(await message(note.kicker().with_task_id("mine"), "labelled"), delay=DELAY_S)
            expected = [(value, value) for value in VALUES] + [("labelled", None)]
            assert sorted(map(repr, await settled(got, len(expected)))) == sorted(map(repr, expected))
            if kind == "stream":
                (group,) = await own.xinfo_groups("tasks")
                assert group["pending"] == 0
            else:
                assert await own.llen("tasks") == 0
    finally:
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        await broker.shutdown()


@pytest.fixture(scope="module")
def celery_server():
    """A server of which a Celery worker takes its tasks."""
    pytest.importorskip("celery")
    for server in start_or_skip("valkey-9.1"):
        with pytest.MonkeyPatch.context() as patch, celery_worker(server):
            patch.setenv("LAYOUT_TASKS_URL", server.url)
            yield server


@contextmanager
def celery_worker(server):
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.server.layout_tasks",
        "worker",
        "--pool",
        "solo",
        "-l",
        "error",
    ]
    worker = subprocess.Popen(command, env=os.environ | {"LAYOUT_TASKS_URL": server.url})
    try:
        yield
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            worker.kill()


@pytest.mark.parametrize("target", ["celery", "celery\x06\x163"], ids=["usual", "priority"])
async def test_a_celery_worker_runs_each_task_once_beyond_its_visibility_timeout(celery_server, target):
    from promoter_layouts.for_celery import message
    from tests.server.layout_tasks import note

    async with (
        Redis.from_url(celery_server.url) as own,
        promoting(celery_server.url, f"celery:key={target}", "celery") as queue,
    ):
        await own.delete("noted")
        for value in VALUES:
            await queue.schedule(message(note, [value], {"more": value}), delay=4)
        stats = await queue.stats()
        assert (stats.depth, await own.llen(target)) == (len(VALUES), 0), "nothing waits in the worker"

        async def noted():
            return await own.llen("noted") >= len(VALUES)

        await until(noted, 40)
        await asyncio.sleep(1)
        got = sorted(text.decode() for text in await own.lrange("noted", 0, -1))
        assert got == sorted(repr(((value,), {"more": value})) for value in VALUES)
        assert await own.llen(target) == 0
        assert await own.hlen("unacked") == 0


def test_a_celery_message_has_no_delay_and_goes_to_one_queue():
    pytest.importorskip("celery")
    from promoter_layouts.for_celery import message
    from tests.server.layout_tasks import app, note

    with pytest.raises(ConfigError, match="takes no countdown="):
        message(note, countdown=5)
    assert b'"routing_key": "other"' in message(note, [1], queue="other")
    app.conf.task_always_eager = True
    try:
        with pytest.raises(ConfigError, match="with task_always_eager"):
            message(note)
    finally:
        app.conf.task_always_eager = False
