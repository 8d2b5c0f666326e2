"""Mistakes that everybody makes once: each is one PromoterError that says what was expected."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promoter_core import ConfigError, DelayedQueue, Job, JobError, Promoter, PromoterFleet, connect
from promoter_core.testing import RecordingEvents, RecordingMetrics
from tests.typed import untyped


@pytest.fixture
async def backend():
    async with connect("memory://") as backend:
        yield backend


@pytest.mark.parametrize("jobs", [[{"to": "ada"}], {"to": "ada"}, "abc", Job(data=1), 7, [None]])
async def test_schedule_many_takes_jobs(backend, jobs):
    with pytest.raises(JobError, match=r"schedule_many takes (several )?Job\(data=…, delay=…\), not"):
        await DelayedQueue(backend, "q").schedule_many(jobs)
    assert (await backend.stats("q")).stream_len == 0


@pytest.mark.parametrize("ids", ["abc", b"abc", {"a": 1}, 7])
async def test_cancel_many_takes_several_ids(backend, ids):
    await DelayedQueue(backend, "q").schedule(1, delay=60, job_id="a")
    with pytest.raises(JobError, match="cancel_many takes a list of job ids, not"):
        await DelayedQueue(backend, "q").cancel_many(ids)
    assert (await backend.stats("q")).depth == 1


async def test_cancel_many_takes_any_iterable(backend):
    queue = DelayedQueue(backend, "q")
    jobs = await queue.schedule_many(Job(data=i, delay=timedelta(minutes=1)) for i in range(3))
    assert len(await queue.cancel_many(job for job in jobs)) == 3


@pytest.mark.parametrize("queues", ["emails", "mail-*", 7])
async def test_a_fleet_takes_a_list_of_queues(backend, queues):
    with pytest.raises(ConfigError, match=r"queues must be a list of names, such as \["):
        PromoterFleet(backend, queues)


@pytest.mark.parametrize("queue", ["a{b}", "", 7, ["emails"]])
async def test_a_promoter_takes_the_name_of_a_queue(backend, queue):
    with pytest.raises(ConfigError, match="queue name"):
        Promoter(backend, queue)


@pytest.mark.parametrize(
    ("sinks", "message"),
    [
        ({"metrics": "logging"}, r"metrics must be a list of sinks .* such as metrics=\['logging'\]"),
        ({"events": RecordingEvents()}, "events must be a list of sinks"),
        ({"metrics": [object()]}, "object is not a sink: it has no method 'on_tick'"),
        ({"events": [RecordingMetrics()]}, "RecordingMetrics is not a sink: it has no method 'emit'"),
        ({"metrics": [RecordingMetrics]}, r"give an object, RecordingMetrics\(\), not the class"),
        ({"metrics": [None]}, "NoneType is not a sink"),
    ],
)
async def test_sinks_are_a_list_of_sinks(backend, sinks, message):
    with pytest.raises(ConfigError, match=message):
        Promoter(backend, "q", **sinks)
    with pytest.raises(ConfigError, match=message):
        PromoterFleet(backend, ["q"], **sinks)


async def test_no_trace_context_is_no_trace_context(backend):
    scheduled = await DelayedQueue(backend, "q").schedule(1, delay=60, traceparent=None)
    assert scheduled.created


@pytest.mark.parametrize("wrong", ["redis://localhost", None, object()])
async def test_a_backend_is_one(wrong):
    for use in (lambda b: DelayedQueue(b, "q"), lambda b: Promoter(b, "q"), lambda b: PromoterFleet(b, ["q"])):
        with pytest.raises(ConfigError, match=r"expected an open backend, not .*async with connect\(url\)"):
            use(wrong)


async def test_a_forgotten_async_with_is_said():
    with pytest.raises(ConfigError, match=r"not what connect\(\) returns before it is entered"):
        DelayedQueue(untyped(connect("memory://")), "q")


@pytest.mark.parametrize("wrong", ["emails", {"lock_ttl_ms": 1_000}, 7])
async def test_settings_are_settings(backend, wrong):
    for use in (lambda s: Promoter(backend, "q", s), lambda s: PromoterFleet(backend, ["q"], s)):
        with pytest.raises(ConfigError, match=r"settings must be a PromoterSettings\(…\), not "):
            use(wrong)


@pytest.mark.parametrize("wrong", ["", "x" * 513, "ü" * 257, 7, b"me"])
async def test_a_holder_id_is_text_that_fits(backend, wrong):
    for use in (lambda h: Promoter(backend, "q", holder_id=h), lambda h: PromoterFleet(backend, ["q"], holder_id=h)):
        with pytest.raises(ConfigError, match="holder_id must be text of 1 to 512 bytes"):
            use(wrong)
