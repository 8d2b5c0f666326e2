"""Serializers in the core: which one is used, what it must give, and what the errors say."""

from __future__ import annotations

import json
import logging
import pickle
from datetime import UTC, datetime

import msgpack
import pytest

from promoter_core import ConfigError, DelayedQueue, Envelope, JobError, PluginError, Registry, connect, unpack_envelope
from promoter_core.registry import installed
from promoter_core.spi import MsgpackSerializer, Serializer, SerializerSpec, StreamName, hookimpl
from promoter_core.testing import VirtualClock
from tests.typed import untyped
from tests.unit.distributions import install


class Shouting:
    """A serializer of a test's own, of text."""

    def dumps(self, data):
        return data.upper().encode()

    def loads(self, payload, type=None):
        return (type or str)(payload, "utf-8")


class Plugin:
    def __init__(self, **spec):
        self.spec = {"name": "loud", "summary": "", "target": "tests.unit.test_serializers:Shouting"} | spec

    @hookimpl
    def promoter_register_serializers(self):
        yield SerializerSpec(**self.spec)


@pytest.fixture
async def backend():
    async with connect("memory://", clock=VirtualClock()) as backend:
        yield backend


async def stored(backend, queue):
    """The envelopes of a queue's jobs, once they are promoted."""
    from promoter_core import Promoter

    await Promoter(backend, queue.name).run(until_idle=True)
    return [unpack_envelope(e.fields["d"]) for e in await backend.read(queue.name, StreamName.JOBS, "", 100)]


def envelope(payload):
    return Envelope("j", payload, created_at_ms=0, attempt=0)


async def test_data_is_packed_by_the_queues_serializer_and_read_with_the_same(backend):
    queue = DelayedQueue(backend, "q", serializer=Shouting())
    await queue.schedule("hello")
    (job,) = await stored(backend, queue)
    assert job.payload == b"HELLO"
    assert job.data(Shouting()) == "HELLO"
    assert job.data(Shouting(), str) == "HELLO"


async def test_the_default_is_msgpack_byte_for_byte(backend):
    data = {"to": "a@b.c", "n": [1, -1, 2**63, 1.5, None, True, b"\xff"], 3: ("x",)}
    for serializer in ("msgpack", MsgpackSerializer()):
        queue = DelayedQueue(backend, f"q{type(serializer).__name__}", serializer=serializer)
        await queue.schedule(data)
        (job,) = await stored(backend, queue)
        assert job.payload == msgpack.packb(data)
        assert job.data() == {"to": "a@b.c", "n": [1, -1, 2**63, 1.5, None, True, b"\xff"], 3: ["x"]}


async def test_a_queue_takes_a_serializer_by_its_name_in_a_registry(backend):
    queue = DelayedQueue(backend, "q", serializer="loud", registry=Registry([Plugin()]))
    await queue.schedule("hello")
    (job,) = await stored(backend, queue)
    assert job.payload == b"HELLO"


@pytest.mark.parametrize(
    ("serializer", "message"),
    [
        (
            "msgpak",
            r"unknown serializer 'msgpak'; did you mean 'msgpack'\? Choices: faststream, json, msgpack, msgspec, pyd",
        ),
        (Shouting, "Shouting is a class; pass an object of it"),
        (5, "must be a name or an object with dumps and loads, not a int"),
    ],
)
async def test_what_is_no_serializer_is_one_clear_error(backend, serializer, message):
    with pytest.raises(ConfigError, match=message):
        DelayedQueue(backend, "q", serializer=serializer)
    with pytest.raises(ConfigError, match=message):
        envelope(b"").data(serializer)


def test_a_missing_extra_is_named_with_its_installation():
    registry = Registry([Plugin(requires=("no_such_module",), install="promoter-core[loud]")], entry_points=False)
    with pytest.raises(
        PluginError, match=r"serializer 'loud' needs the module no_such_module.*'promoter-core\[loud\]'"
    ):
        registry.serializer("loud")
    assert [r.missing for r in registry.all()] == [("no_such_module",)]


def test_a_target_that_makes_no_serializer_says_what_it_lacks():
    registry = Registry([Plugin(target="builtins:object")], entry_points=False)
    with pytest.raises(PluginError, match="is no serializer: its target returns object, which lacks dumps, loads"):
        registry.serializer("loud")


def test_two_serializers_of_one_name_are_nobodys(caplog):
    with caplog.at_level(logging.WARNING, "promoter.registry"):
        registry = Registry([Plugin(), Plugin()], entry_points=False)
        with pytest.raises(PluginError, match="two serializers are named 'loud'"):
            registry.serializer("loud")
    assert "is broken and skipped: two serializers are named 'loud'" in caplog.text


LOUD = """
from promoter_core.spi import SerializerSpec, hookimpl

@hookimpl
def promoter_register_serializers():
    yield SerializerSpec(name="{name}", summary="shouts", target="tests.unit.test_serializers:Shouting")
"""


def test_a_third_partys_serializer_is_found_by_its_entry_point(site):
    install(site, "loud-data", "1.0", "loud", LOUD.replace("{name}", "entry-loud"))
    assert isinstance(Registry().serializer("entry-loud"), Shouting)
    installed.cache_clear()
    try:
        assert envelope(b"HELLO").data("entry-loud") == "HELLO"
    finally:
        installed.cache_clear()


def test_a_third_party_cannot_take_the_name_of_the_default(site, caplog):
    install(site, "loud-data", "1.0", "loud", LOUD.replace("{name}", "msgpack"))
    with caplog.at_level(logging.WARNING, "promoter.registry"):
        assert isinstance(Registry().serializer("msgpack"), MsgpackSerializer)
    assert "two serializers are named 'msgpack'" in caplog.text


async def test_an_error_of_a_serializer_names_the_type_and_the_path(backend):
    queue = DelayedQueue(backend, "q", serializer=Shouting())
    with pytest.raises(
        JobError, match=r"^data is an int \('int' object has.*\): Shouting cannot pack it; conv"
    ) as raised:
        await queue.schedule(5)
    assert isinstance(raised.value.__cause__, AttributeError)


async def test_a_serializer_that_gives_no_bytes_is_an_error(backend):
    with pytest.raises(JobError, match="serializer json gave str, expected bytes"):
        await DelayedQueue(backend, "q", serializer=untyped(json)).schedule({})


async def test_a_module_with_dumps_and_loads_is_a_serializer(backend):
    when = datetime(2030, 1, 1, tzinfo=UTC)
    queue = DelayedQueue(backend, "q", serializer=untyped(pickle))
    await queue.schedule({"when": when})
    (job,) = await stored(backend, queue)
    assert job.data(pickle) == {"when": when}


@pytest.mark.parametrize("data", [{("a", 1): 2}, {("a", ("b", 1)): {(): 3}}])
def test_keys_that_are_tuples_come_back(data):
    assert envelope(msgpack.packb(data)).data() == data


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x92\x01", b"\xd9\x01\xff", b"\x81\x80\x01", b"\x91" * 5000, b"1 "]
)
def test_a_payload_that_cannot_be_read_is_a_job_error_that_names_the_job(payload):
    with pytest.raises(JobError, match="the data of job 'j' cannot be read with msgpack: "):
        envelope(payload).data()


def test_a_payload_of_another_serializer_is_recognised():
    with pytest.raises(JobError, match="it is JSON: read it with serializer='json'"):
        envelope(b'{"a": 1}').data()
    with pytest.raises(JobError, match="it is msgpack: read it with serializer='msgpack'"):
        envelope(msgpack.packb({"a": 1})).data("json")


def test_types_are_for_typed_serializers():
    for name in ("msgpack", "json"):
        with pytest.raises(ConfigError, match=f"{name} gives plain data and takes no type="):
            envelope(b"\x80").data(name, type=dict)


def test_a_serializer_is_any_object_with_its_methods():
    assert isinstance(Shouting(), Serializer)
    assert isinstance(MsgpackSerializer(), Serializer)


async def test_data_that_is_too_deep_for_the_stack_is_one_clear_error(backend):
    def down(levels):
        return down(levels - 1) if levels else maker.make([Job(data=deep)])

    from promoter_core import Job
    from promoter_core.client.requests import RequestMaker

    deep: list[object] = []
    for _ in range(1200):
        deep = [deep]
    maker = RequestMaker(5)
    with pytest.raises(JobError, match="nested"):
        down(600)
