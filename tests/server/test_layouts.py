"""Layouts from the command line, in a fleet, in a cluster, and beside one another on one server."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, Promoter, PromoterFleet, PromoterSettings, connect
from promoter_core.cli import near, session
from promoter_core.spi import Lease, pack_envelope
from tests.server.bench import promote, until
from tests.server.test_cli import promoter
from tests.typed import present, untyped

pytestmark = pytest.mark.server


def test_the_command_line_works_by_a_layout(valkey):
    queue = f"q-{ULID()}"
    where = ["--url", valkey.url, "--queue", queue, "--layout", "list:key=jobs:{queue}"]
    text = '{"to":  "ada", "n": 9007199254740993}'
    sent = promoter("schedule", *where, "--delay", "1ms", text)
    assert sent.returncode == 0, sent.stderr
    waiting = promoter("schedule", *where, "--delay", "1h", "--id", "later", "{}")
    assert waiting.returncode == 0, waiting.stderr
    done = promoter("run", *where, "--until-idle")
    assert done.returncode == 0, done.stderr
    with contextlib.closing(valkey_client(valkey)) as client:
        assert client.lrange(f"jobs:{queue}", 0, -1) == [text.encode()], "as it was given"
    environment = {"PROMOTER_LAYOUT": where[-1], "PROMOTER_URL": valkey.url, "PROMOTER_QUEUE": queue}
    stats = json.loads(promoter("inspect", "--json", env=environment).stdout)
    assert (stats["depth"], stats["stream_len"]) == (1, 1)
    assert "removed" in promoter("cancel", "later", env=environment).stdout
    assert "list" in promoter("inspect", env=environment).stdout
    said = promoter("doctor", env=environment).stdout
    assert "scripts and all their commands are permitted" in said
    assert "no consumer group" not in said
    assert "layout list: due jobs go to the key jobs:<queue>" in said
    said = promoter("doctor", "--url", valkey.url, "--layout", "celery:key=tasks").stdout
    assert "layout celery: due jobs go to the key tasks, tested with celery" in said


@pytest.mark.parametrize(
    ("layout", "message"),
    [("celry", "did you mean 'celery'?"), ("list:sid=left", "did you mean 'side'?"), ("list:side=up", "left or right")],
)
def test_a_wrong_layout_is_one_line(layout, message):
    answer = promoter("run", "--url", "redis://localhost:1", "--queue", "q", "--layout", layout)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def valkey_client(server):
    import redis

    return redis.Redis.from_url(server.url)


async def test_fleets_of_two_layouts_and_a_default_one_share_a_server(valkey):
    start = f"f{ULID()}-"
    layouts = ["list", "stream", None]
    async with contextlib.AsyncExitStack() as stack, Redis.from_url(valkey.url) as client:
        for layout in layouts:
            backend = await stack.enter_async_context(connect(valkey.url, layout=layout))
            await stack.enter_async_context(PromoterFleet(backend, [f"{start}*"]).running())
            for i in range(3):
                queue = DelayedQueue(backend, f"{start}{layout}-{i}", serializer="raw")
                await queue.schedule(b"%d" % i, delay=0.05)

        async def arrived():
            return [
                await client.lrange(f"{start}list-{i}", 0, -1) == [b"%d" % i]
                and [fields for _, fields in await client.xrange(f"{start}stream-{i}")] == [{b"data": b"%d" % i}]
                and await client.xlen(f"{{chasqui:{start}None-{i}}}:stream") == 1
                for i in range(3)
            ] == [True] * 3

        await until(arrived)


async def test_a_queue_of_a_layout_is_led_by_one_and_taken_over(valkey):
    name = f"q-{ULID()}"
    async with connect(valkey.url, layout="list") as one, connect(valkey.url, layout="list") as two:
        queue, client = DelayedQueue(one, name), Redis.from_url(valkey.url)
        async with Promoter(two, name).running():
            async with Promoter(one, name).running():
                for i in range(20):
                    await queue.schedule(b"%d" % i, delay=0.01 * i)
                await asyncio.sleep(0.1)

            async def arrived():
                return sorted(map(int, await client.lrange(name, 0, -1))) == list(range(20))

            await until(arrived)
        await client.aclose()


async def test_a_full_stream_of_another_framework_is_trimmed_of_what_is_acknowledged(valkey):
    name = f"q-{ULID()}"
    async with connect(valkey.url, layout="taskiq") as backend, Redis.from_url(valkey.url) as client:
        await client.xgroup_create(name, "taskiq", "0", mkstream=True)
        for i in range(20):
            await DelayedQueue(backend, name).schedule(b"%d" % i)
        got: list[int] = []
        async with Promoter(backend, name, PromoterSettings(max_stream_len=5)).running():
            async with asyncio.timeout(20):
                while len(got) < 20:
                    assert await client.xlen(name) <= 5
                    for _, entries in await client.xreadgroup("taskiq", "c", {name: ">"}, count=5, block=50):
                        for id, fields in entries:
                            got.append(int(fields[b"data"]))
                            await client.xack(name, "taskiq", id)
        assert sorted(got) == list(range(20))


@pytest.mark.parametrize("how", ["promoted", "run now", "requeued"])
async def test_fields_of_a_stream_are_those_of_the_layout(valkey, how):
    queue = f"q-{ULID()}"
    fields = "stream:field=body,id_field=it's,name_field=näme"
    async with connect(valkey.url, layout=fields) as backend, Redis.from_url(valkey.url) as client:
        jobs, k = DelayedQueue(backend, queue), untyped(backend).layout.keys_of(queue)
        for name in ("", "send"):
            if how == "requeued":
                dead = await client.xadd(k.dlq, {"d": b"?"})
                envelope = pack_envelope(f"i-{name}", b"\0", 0, 0)
                assert await untyped(backend).requeue_dead_letter(queue, dead.decode(), envelope, name)
                continue
            await jobs.schedule(b"\0", job_id=f"i-{name}", name=name, delay=0 if how == "promoted" else 60)
            if how == "run now":
                await jobs.run_now(f"i-{name}")
            else:
                await promote(backend, queue)
        entries = [entry for _, entry in await client.xrange(k.stream)]
        it, its_name = b"it's", "näme".encode()
        assert entries == [{b"body": b"\0", it: b"i-"}, {b"body": b"\0", it: b"i-send", its_name: b"send"}]


async def test_jobs_that_wait_by_another_layout_are_found(valkey, caplog):
    name, where = f"q-{ULID()}", ["--url", valkey.url, "--queue"]
    async with connect(valkey.url, layout="celery") as backend, connect(valkey.url, layout="list") as other:
        for i in range(3):
            await DelayedQueue(backend, name).schedule(b"%d" % i, delay=60)
        expected = "3 of its jobs wait under the layout 'celery': give --layout celery"
        session.opened = valkey.url, "list"
        await near.say_if_quiet(other, [name, f"{name[:-1]}*", "nothing-of-it-*"], 30)
        one, pattern, none = (record.getMessage() for record in caplog.records)
        assert one.startswith(f"queue {name!r} has received nothing in 30 s")
        assert expected in one
        assert f"under the layout 'celery' there are {name!r}: give --layout celery" in pattern
        assert "no queue matches 'nothing-of-it-*' after 30 s; the store has" in none
        session.opened = "", None
        lease = await other.lock(name, "h", 5_000)
        assert isinstance(lease, Lease)
        assert f"did you mean {name!r}" not in await near.hint(other, name), "a name that its own lock has put there"
        await other.unlock(lease)
        caplog.clear()
        session.opened = valkey.url, "celery"
        await near.say_if_quiet(backend, [name, f"{name[:-1]}*"], 30)
        assert not caplog.records, "its jobs wait"
    for command in ("inspect", "doctor"):
        answer = await asyncio.to_thread(promoter, command, *where, name, "--layout", "list")
        assert expected in answer.stdout + answer.stderr
    answer = await asyncio.to_thread(promoter, "inspect", *where, name)
    assert expected in answer.stderr


async def test_waiting_jobs_are_copied_from_one_layout_to_another(valkey):
    name = f"q-{ULID()}"
    async with connect(valkey.url, layout="celery") as backend, connect(valkey.url, layout="list") as other:
        await DelayedQueue(backend, name).schedule(b"payload", delay=60, job_id="a")
        both = ["copy", "--from", valkey.url, "--to", valkey.url, "--queue", name, "--from-layout", "celery"]
        done = await asyncio.to_thread(promoter, *both, "--to-layout", "list:key=elsewhere")
        assert "1 jobs: 1 new" in done.stdout, done.stderr
        assert present(await DelayedQueue(other, name).get("a")).data() == b"payload"
        same = await asyncio.to_thread(promoter, *both, "--to-layout", "celery:key=elsewhere")
        assert (same.returncode, "the same queue of the same store" in same.stderr) == (2, True)
        wrong = await asyncio.to_thread(promoter, *both, "--to-layout", "lst")
        assert "did you mean 'list'?" in wrong.stderr
