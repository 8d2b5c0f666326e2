"""`apply_async`, `schedule` and `DelayedPublisher`: what they refuse, and the jobs that they make."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from promoter_core import ConfigError, DelayedQueue, JobError, connect, sync
from promoter_core.spi import CHASQUIMQ
from tests.typed import present

IN_AN_HOUR = datetime.now(UTC) + timedelta(hours=1)
MS = timedelta(milliseconds=1)  # to which due times are rounded


@pytest.fixture
def app():
    celery = pytest.importorskip("celery")
    app = celery.Celery("layouts", broker="redis://localhost:1/0")
    routes = {"mail.*": {"queue": "mail"}, "urgent": {"priority": 7}}
    app.conf.update(task_ignore_result=True, task_send_sent_event=True, task_routes=routes)
    app.task(name="add", shared=False)(add)
    app.task(name="urgent", shared=False)(nothing)
    app.task(name="mail.send", shared=False)(nothing)
    yield app
    app.close()


def add(x, y=1):
    return x + y


def nothing():
    pass


def due_ms(job):
    return job.due.timestamp() * 1000


@contextmanager
def queue_by(layout, name="celery"):
    with sync.connect("fake://", layout=layout) as backend:
        yield sync.DelayedQueue(backend, name)


def apply(queue, task, /, *args, **options):
    from promoter_layouts.for_celery import apply_async

    return apply_async(queue, task, *args, **options)


def test_the_job_of_a_celery_task_is_the_message_without_eta_and_has_its_id(app):
    add = app.tasks["add"]
    with queue_by("celery") as queue:
        before = datetime.now(UTC)
        apply(queue, add, [1], {"y": 2}, countdown=60, task_id="a", shadow="shown", headers={"h": "v"})
        apply(queue, add, (1,), eta=IN_AN_HOUR, task_id="b", link=add.s(2), link_error=add.s(3), expires=90)
        after = datetime.now(UTC)  # the first call imports much of Celery, which takes seconds on a busy machine
        assert [job.id for job in queue.jobs().jobs] == ["a", "b"]
        a, b = map(queue.get, "ab")
        assert before - MS <= a.due - timedelta(seconds=60) <= after + MS
        assert abs(b.due - IN_AN_HOUR) < timedelta(milliseconds=2)
        first, second = json.loads(a.data()), json.loads(b.data())
        assert (first["headers"]["eta"], second["headers"]["eta"]) == (None, None)
        assert (first["headers"]["shadow"], first["headers"]["h"]) == ("shown", "v")
        assert first["properties"]["delivery_info"]["routing_key"] == "celery"
        expires = datetime.fromisoformat(second["headers"]["expires"])
        assert before - MS <= expires - timedelta(seconds=90) <= after + MS
        assert queue.cancel("a")
        assert not apply(queue, add, [1], countdown=60, task_id="b").created, "its id is taken"


def test_a_chain_and_a_map_are_one_message_each(app):
    from celery import chain, group

    add = app.tasks["add"]
    with queue_by("celery") as queue:
        for canvas in (chain(add.s(1), add.s(2)), add.s(1) | group(add.s(1), add.s(2)), add.map([1, 2]), add.si(1)):
            assert apply(queue, canvas, countdown=60).created
        assert queue.stats().depth == 4


def test_priorities_and_prefixes_are_lists_of_their_own(app):
    urgent = app.tasks["urgent"]
    with queue_by("celery:priority=6") as queue:
        assert queue.layout.keys_of("celery").stream == b"celery\x06\x166"
        assert apply(queue, urgent, countdown=60).created
    with queue_by("celery:priority=8") as queue, pytest.raises(ConfigError, match="with layout='celery:priority=3'"):
        apply(queue, urgent, priority=4)
    app.conf.broker_transport_options = {"global_keyprefix": "app:", "sep": ":", "priority_steps": [0, 5]}
    with queue_by("celery:key=app:{queue}:5") as queue:
        assert apply(queue, urgent, countdown=60).created
    with queue_by("celery") as queue, pytest.raises(ConfigError, match="layout='celery:key=app:{queue}:5'"):
        apply(queue, urgent)


def test_queues_of_different_priorities_wait_apart(app):
    with sync.connect("fake://celery-apart", layout="celery:priority=6") as one:
        with sync.connect("fake://celery-apart", layout="celery") as other:
            apply(sync.DelayedQueue(one, "celery"), app.tasks["urgent"], countdown=60)
            assert sync.DelayedQueue(other, "celery").stats().depth == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda add, **o: (add.s(1).set(countdown=5), o), "has a countdown= or an eta= in its own options"),
        (lambda add, **o: (add.s(1), o | {"connection": 1}), "connection= says where to send a task"),
        (lambda add, **o: (add.s(1), o | {"queue": "other"}), "schedule in the queue 'other' with layout='celery'"),
        (lambda add, **o: (add.app.tasks["mail.send"], o), "reads the list 'mail'"),
        (lambda add, **o: ("add", o), r"app.signature\('add'\)"),
        (lambda add, **o: (add.chunks([(1,), (2,)], 1), o), "expected one queue"),
    ],
)
def test_what_a_celery_task_cannot_do_with_a_delay_is_one_line(app, call, message):
    task, options = call(app.tasks["add"], countdown=5)
    if "own options" in message:
        del options["countdown"]
    with queue_by("celery") as queue:
        with pytest.raises(ConfigError, match=message) as raised:
            apply(queue, task, **options)
        assert "\n" not in str(raised.value)
        assert queue.stats().depth == 0


def test_groups_and_chords_are_refused_before_anything_is_sent(app):
    from celery import chain, chord, group

    add = app.tasks["add"]
    many = group(add.s(1), add.s(2))
    with queue_by("celery") as queue:
        for canvas in (many, chord([add.s(1)], add.s(2)), chain(many, add.s(3))):
            with pytest.raises(ConfigError, match="is several messages"):
                apply(queue, canvas, countdown=5)


def test_an_eager_task_is_refused_and_does_not_run(app):
    ran = []

    @app.task(name="note", shared=False)
    def note():
        ran.append(1)

    app.conf.task_always_eager = True
    with queue_by("celery") as queue, pytest.raises(ConfigError, match="task_always_eager"):
        apply(queue, app.tasks["note"], countdown=5)
    assert not ran


def test_times_are_checked_as_those_of_any_job(app):
    add = app.tasks["add"]
    with queue_by("celery") as queue:
        with pytest.raises(JobError, match="has no time zone"):
            apply(queue, add, [1], eta=datetime(2030, 1, 1))  # noqa: DTZ001
        with pytest.raises(JobError, match="not both"):
            apply(queue, add, [1], eta=IN_AN_HOUR, countdown=1)
        apply(queue, add, [1], eta=datetime.now(UTC) - timedelta(days=1))
        apply(queue, add, [1], countdown=0)
        assert queue.stats().due == 2, "what is due already goes to the worker now"


@pytest.mark.parametrize("layout", ["taskiq", None])
def test_a_queue_whose_target_no_celery_worker_reads_is_refused(app, layout):
    given = "has the layout 'taskiq'" if layout else "has the layout 'chasqui'"
    with queue_by(layout) as queue, pytest.raises(ConfigError, match=f"the layout 'celery' delivers.*{given}"):
        apply(queue, app.tasks["add"], [1])
    with sync.connect("memory://") as backend, pytest.raises(ConfigError, match="has no layout"):
        apply(sync.DelayedQueue(backend, "celery"), app.tasks["add"], [1])


async def test_a_queue_has_the_layout_of_its_backend():
    async with connect("fake://") as backend, connect("memory://") as memory:
        assert DelayedQueue(backend, "q").layout is CHASQUIMQ
        assert DelayedQueue(memory, "q").layout is None


@pytest.fixture
def brokers():
    return pytest.importorskip("taskiq_redis")


async def test_the_job_of_a_taskiq_task_has_its_labels_and_its_id(brokers):
    from promoter_layouts.for_taskiq import schedule

    broker = brokers.RedisStreamBroker("redis://localhost:1", queue_name="tasks")
    task = broker.task(task_name="note", team="mail")(lambda x: None)
    async with connect("fake://", layout="taskiq") as backend:
        queue = DelayedQueue(backend, "tasks")
        answer = await schedule(queue, task.kicker().with_task_id("mine").with_labels(n=1), 7, delay=60)
        assert (answer.id, answer.created) == ("mine", True)
        sent = json.loads(present(await queue.get("mine")).data())
        assert (sent["task_id"], sent["args"], sent["labels"]["team"]) == ("mine", [7], "mail")
        assert (await schedule(queue, task, x=1, at=IN_AN_HOUR)).created
        before_ms = (await queue.stats()).now_ms
        labelled = await schedule(queue, task.kicker().with_labels(delay=600), 1)
        assert due_ms(await queue.get(labelled)) - before_ms >= 600_000, "the label counts where no delay is given"
        with pytest.raises(ConfigError, match="label delay of the task note is no number of seconds: 'soon'"):
            await schedule(queue, task.kicker().with_labels(delay="soon"), 1)


async def test_a_taskiq_broker_that_does_not_read_the_target_is_refused(brokers):
    from promoter_layouts.for_taskiq import schedule

    async with connect("fake://", layout="taskiq") as backend:
        queue = DelayedQueue(backend, "tasks")
        for broker, message in (
            (brokers.ListQueueBroker("redis://localhost:1"), "the layout 'taskiq-list' delivers"),
            (brokers.PubSubBroker("redis://localhost:1"), "reads a channel"),
            (brokers.RedisStreamBroker("redis://localhost:1"), "reads the stream 'taskiq'.*go to 'tasks'"),
        ):
            task = broker.task(task_name="note")(lambda: None)
            with pytest.raises(ConfigError, match=message):
                await schedule(queue, task, delay=60)
        other = brokers.RedisStreamBroker("redis://localhost:1").task(task_name="other", queue_name="tasks")(
            lambda: None
        )
        assert (await schedule(queue, other, delay=60)).created, "the label queue_name says where it goes"


@pytest.fixture
def faststream():
    return pytest.importorskip("faststream.redis")


async def test_a_delayed_publisher_makes_what_the_broker_would_publish(faststream):
    from faststream import BaseMiddleware
    from faststream.redis.parser import BinaryMessageFormatV1

    from promoter_layouts.for_faststream import DelayedPublisher

    seen = []

    class Noting(BaseMiddleware):
        async def publish_scope(self, call_next, cmd):
            seen.append(cmd.destination)
            return await call_next(cmd)

    broker = faststream.RedisBroker("redis://localhost:1", middlewares=[Noting])
    async with connect("fake://", layout="faststream:key=mail:{{queue}}") as backend:
        queue = DelayedQueue(backend, "emails")
        publisher = DelayedPublisher(broker, queue, headers={"team": "mail", "v": "1"}, reply_to="answers")
        await publisher.publish({"to": "ada"}, delay=60, job_id="a", headers={"v": "2"}, correlation_id="c-1")
        await queue.schedule({"plain": True}, delay=61, job_id="b")
        body, headers = BinaryMessageFormatV1.parse(present(await queue.get("a")).data())
        assert json.loads(body) == {"to": "ada"}
        assert headers == {
            "correlation_id": "c-1",
            "content-type": "application/json",
            "reply_to": "answers",
            "team": "mail",
            "v": "2",
        }
        assert seen == ["mail:{emails}"], "middlewares see where it goes"
        assert present(await queue.get("b")).data() == {"plain": True}
        assert not (await publisher.publish({}, delay=60, job_id="a")).created, "its id is taken"
        with pytest.raises(JobError, match="await broker.connect()"):
            await publisher.publish(object(), delay=60)


async def test_a_delayed_publisher_needs_a_broker_and_a_queue_that_fit(faststream):
    from promoter_layouts.for_faststream import DelayedPublisher, message

    broker = faststream.RedisBroker("redis://localhost:1")
    async with connect("fake://", layout="celery") as backend:
        with pytest.raises(ConfigError, match="'faststream' or 'faststream-list' delivers.*the layout 'celery'"):
            DelayedPublisher(broker, DelayedQueue(backend, "emails"))
    with pytest.raises(ConfigError, match="not by a RedisClusterBroker"):
        await message(faststream.RedisClusterBroker("redis://localhost:1"), {})


def test_many_messages_can_be_made_at_once(faststream):
    from promoter_layouts.for_faststream import message

    async def go():
        broker = faststream.RedisBroker("redis://localhost:1")
        return await asyncio.gather(*(message(broker, n) for n in range(3)))

    assert len(set(asyncio.run(go()))) == 3
