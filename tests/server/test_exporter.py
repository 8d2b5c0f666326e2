"""`promoter exporter` and `promoter run --store-metrics` on a real server: led or not, slow, away, and back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from promoter_core.monitor import QueueSnapshot, Sampler, snapshot
from promoter_core.monitor.reading import read_queue
from promoter_core.spi import CHASQUIMQ, SystemClock
from tests import processes
from tests.server.test_cli import promoter, running, until
from tests.server.test_http import get
from tests.servers import Server, free_port
from tests.typed import present

pytestmark = pytest.mark.server


@contextmanager
def exporting(*arguments):
    """A running `promoter exporter`, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "promoter_core", "exporter", *arguments, "--listen", str(port), "--refresh", "0.2"]
    process = processes.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
    try:
        until(lambda: get(port, "/livez")[0] == 200)
        yield process, port
    finally:
        process.kill()
        process.communicate()


def figure(port, name, **labels):
    """A metric's value; None when there is none."""
    wanted = ",".join(f'{label}="{value}"' for label, value in labels.items())
    found = re.search(
        rf"^{re.escape(name + (f'{{{wanted}}}' if labels else ''))} (\S+)$", get(port, "/metrics")[1], re.M
    )
    return None if found is None else float(found[1])


def test_it_shows_queues_whoever_leads_them_or_nobody(valkey, name):
    for delay in ("30s", "30m", "2h"):
        promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", delay, "{}")
    with exporting("--url", valkey.url, "--queue", name) as (process, port):
        until(lambda: figure(port, "promoter_store_unled_jobs", queue=name) == 3)
        assert get(port, "/readyz") == (200, "ok\n")
        assert figure(port, "promoter_store_led", queue=name) == 0
        for within, count in (("minute", 1), ("hour", 2), ("day", 3)):
            assert figure(port, "promoter_store_coming_jobs", queue=name, within=within) == count
        assert figure(port, "promoter_store_next_due_timestamp_seconds", queue=name) == pytest.approx(
            time.time() + 30, abs=20
        )
        with running("--url", valkey.url, "--queue", name):
            until(lambda: figure(port, "promoter_store_led", queue=name) == 1)
            assert figure(port, "promoter_store_unled_jobs", queue=name) == 0
            assert 0 < figure(port, "promoter_store_lease_seconds", queue=name) <= 5
        until(lambda: figure(port, "promoter_store_led", queue=name) == 0)
        assert figure(port, "promoter_store_leader_changes_total", queue=name) >= 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


async def test_groups_show_what_they_owe(backend, client, keys, name):
    await client.xadd(keys.stream, {"d": "x"})
    await client.xadd(keys.stream, {"d": "y"})
    await client.xgroup_create(keys.stream, "workers", "0")
    await client.xreadgroup("workers", "one", {keys.stream: ">"}, count=1)
    await client.xadd(keys.dlq, {"d": "z"})
    (seen,) = (await snapshot(backend, name)).queues
    assert seen.stats
    (group,) = seen.stats.groups
    assert (group.name, group.pending, group.undelivered) == ("workers", 1, 1)
    assert abs(seen.stats.now_ms - present(group.oldest_pending_ms)) < 60_000
    assert (seen.stats.stream_len, seen.stats.dlq_len) == (2, 1)


@pytest.mark.parametrize("groups", [("workers",), ()])
async def test_the_rate_of_a_stream_is_known_though_it_is_trimmed(groups, backend, client, keys, name):
    await client.xadd(keys.stream, {"d": "x"})
    for group in groups:
        await client.xgroup_create(keys.stream, group, "0")
    clock, had = SystemClock(), QueueSnapshot(name=name, pattern=name)
    before = await read_queue(backend, had, clock, 5)
    for _ in range(20):
        await client.xadd(keys.stream, {"d": "x"}, maxlen=5, approximate=False)
    for group in groups:
        await client.xreadgroup(group, "one", {keys.stream: ">"}, count=3)
    await asyncio.sleep(0.2)
    after = await read_queue(backend, before, clock, 5)
    assert before.stats
    assert after.stats
    passed_s = (after.stats.now_ms - before.stats.now_ms) / 1000
    assert after.added_per_s == pytest.approx(20 / passed_s)
    assert after.stats.stream_len == 5


async def test_a_key_of_the_wrong_type_is_that_queues_trouble_alone(backend, client, keys, name):
    await client.set(keys.delayed, "no set")
    await client.zadd(keys.delayed.replace(name.encode(), name.encode() + b"-2"), {"x": 1})
    bad, good = (await snapshot(backend, f"{name}*")).queues
    assert bad.error is not None
    assert present(good.stats).depth == 1


def test_a_scrape_never_waits_for_a_server_that_hangs_and_shows_how_old_it_is(server, name):
    promoter("schedule", "--url", server.url, "--queue", name, "--delay", "1h", "{}")
    with exporting("--url", server.url) as (_, port):
        until(lambda: figure(port, "promoter_store_delayed_jobs", queue=name) == 1)
        server.process.send_signal(signal.SIGSTOP)
        try:
            until(lambda: figure(port, "promoter_exporter_up") == 0, 30)
            assert figure(port, "promoter_store_delayed_jobs", queue=name) == 1
            assert figure(port, "promoter_store_read_ok", queue=name) == 0
            assert figure(port, "promoter_store_sample_age_seconds", queue=name) > 1
            assert figure(port, "promoter_exporter_failed_reads_total") >= 1
        finally:
            server.process.send_signal(signal.SIGCONT)
        until(lambda: figure(port, "promoter_store_read_ok", queue=name) == 1, 30)
        assert figure(port, "promoter_exporter_up") == 1


def test_it_waits_for_a_server_that_comes_later(name):
    server = Server("valkey-9.1", appendonly="yes", appendfsync="always").start()
    promoter("schedule", "--url", server.url, "--queue", name, "--delay", "1h", "{}")
    server.kill()
    with exporting("--url", server.url) as (process, port):
        assert get(port, "/readyz") == (503, "the store has not answered yet\n")
        assert figure(port, "promoter_exporter_up") == 0
        with server:
            until(lambda: figure(port, "promoter_exporter_up") == 1, 20)
            assert get(port, "/readyz")[0] == 200
            until(lambda: figure(port, "promoter_store_unled_jobs", queue=name) == 1, 30)
        assert process.poll() is None


def test_more_queues_than_it_may_show_are_one(valkey, name):
    for i in range(4):
        promoter("schedule", "--url", valkey.url, "--queue", f"{name}-{i}", "--delay", "1h", "{}")
    with exporting("--url", valkey.url, "--queue", f"{name}-*", "--max-queues", "1") as (_, port):
        until(lambda: figure(port, "promoter_store_delayed_jobs", pattern=f"{name}-*") == 3)
        assert figure(port, "promoter_exporter_rest_queues") == 3


def test_a_process_that_promotes_shows_the_store_as_well_when_asked(valkey, name):
    port = free_port()
    promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", "1h", "{}")
    with running("--url", valkey.url, "--queue", name, "--http", str(port), "--store-metrics"):
        until(lambda: figure(port, "promoter_store_led", queue=name) == 1)
        until(lambda: figure(port, "promoter_delayed_jobs", queue=name) == 1)
        page = get(port, "/metrics")[1]
        names = re.findall(r"^# TYPE (\S+)", page, re.M)
        assert len(names) == len(set(names))
        assert "\r" not in page


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("exporter", "--refresh", "0"), "--refresh must be above 0"),
        (("exporter", "--max-queues", "0"), "--max-queues must be at least 1"),
        (("exporter", "--listen", "nowhere"), "expected HOST:PORT"),
        (("exporter", "--queue", "{q}"), "braces"),
        (("run", "--queue", "q", "--store-metrics"), "give --http HOST:PORT as well"),
    ],
)
def test_bad_input_is_one_clear_line(command, message, valkey):
    done = promoter(*command, "--url", valkey.url)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0


async def test_thousands_of_queues_are_read_at_the_pace_that_was_asked_for(backend, client, name):
    pipeline = client.pipeline(transaction=False)
    for i in range(300):
        pipeline.zadd(CHASQUIMQ.keys_of(f"{name}-{i}").delayed, {"x": 10**13})
    await pipeline.execute()
    async with Sampler(backend, f"{name}-*", every_s=0.1, queues_per_s=4_000).running() as sampler:
        while sum(queue.stats is not None for queue in sampler.state().queues) < 300:
            await asyncio.sleep(0.05)
        assert all(queue.unled_jobs == 1 for queue in sampler.state().queues)
