"""Layouts as data: what is checked, how the scripts are rendered, and who may use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from promoter_core import ConfigError, DelayedQueue, JobError, PluginError, Registry, connect, sync
from promoter_core.spi import (
    CHASQUIMQ,
    Layout,
    LayoutSpec,
    LayoutSupport,
    Part,
    Side,
    ToList,
    ToStream,
    hookimpl,
    outward,
    pack_envelope,
    part_of,
)
from promoter_resp.backend import RespBackend
from promoter_resp.rendering import render
from tests.typed import untyped

OUR_ACL = Path(__file__).parents[2] / "docs/reference/wire-format.md"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strem", "unknown layout 'strem'; did you mean 'stream'?"),
        ("stream:feld=x", "no option 'feld' as key=value; did you mean 'field'?"),
        (
            "stream:key=a,hush",
            "option 2 is not key=value, and a comma starts the next option; options are: key, field, ",
        ),
        ("stream:field", "no option 'field' as key=value; options are: key, field, id_field, name_field"),
        ("stream:key=", "key must be the name of the target"),
        ("stream:key=a\nb", "key must be the name of the target"),
        ("stream:field=", "field must be the name of the payload's field"),
        ("stream:field=a,id_field=a", "a stream entry needs fields with different names, not a, a"),
        ("stream:key=promoter-stream:{q}:delayed", "is among its own keys"),
        ("list:side=up", "side must be left or right, not 'up'"),
        ("celery:key=a,side=left", "no option 'side'"),
        ("celery:priority=high", "priority must be a number from 0 to 9, not 'high'"),
        ("celery:priority=10", "priority must be a number from 0 to 9, not '10'"),
        ("celery:priority=3,key=a", "give either key= or priority="),
    ],
)
async def test_what_cannot_work_is_said_in_one_line(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        async with connect("fake://", layout=text):
            pass
    assert "\n" not in str(raised.value)


async def test_a_store_without_scripts_refuses_layouts_in_one_sentence():
    with pytest.raises(ConfigError, match="memory has no layouts; they need a store that runs Lua scripts"):
        async with connect("memory://", layout="stream"):
            pass


async def test_the_default_layout_can_be_named():
    async with connect("fake://", layout="chasqui") as backend:
        assert isinstance(backend, LayoutSupport)
        assert backend.layout is CHASQUIMQ


async def test_the_layout_says_how_data_is_packed_and_a_queue_may_say_otherwise():
    async with connect("fake://", layout="celery") as backend:
        with pytest.raises(JobError, match="raw cannot pack it"):
            await DelayedQueue(backend, "q").schedule({"a": 1}, delay=1)
        await DelayedQueue(backend, "q", serializer="json").schedule({"a": 1}, delay=1, job_id="a")
        (job,) = await untyped(backend).get_jobs("q", ["a"])
        assert part_of(Part.PAYLOAD, job.envelope, "") == b'{"a":1}'


class Plugin:
    @hookimpl
    def promoter_register_layouts(self):
        yield LayoutSpec(name="mail", summary="a list", target="promoter_layouts.outward:to_list", options=("key",))
        yield LayoutSpec(name="absent", summary="none", target="x:y", requires=("no_such_module",), install="absent")


async def test_a_plugin_registers_layouts():
    registry = Registry([Plugin()])
    assert ("layout", "mail") in [(r.kind, r.spec.name) for r in registry.all()]
    assert registry.layout("mail:key=inbox").target == "inbox"
    async with registry.connect("fake://", layout="mail") as backend:
        assert isinstance(backend, LayoutSupport)
        assert backend.layout == registry.layout("list")
    with pytest.raises(PluginError, match="needs the module no_such_module.*pip install 'absent'"):
        registry.layout("absent")


def test_two_layouts_of_one_name_are_a_conflict():
    both = Registry([Plugin(), Plugin()], entry_points=False)
    with pytest.raises(PluginError, match="two layouts are named 'mail'"):
        both.layout("mail")


@pytest.mark.parametrize(
    ("key", "fits"), [("{queue}", True), ("mail:{{queue}}", True), ("mail:{queue}", False), ("celery", False)]
)
def test_a_cluster_needs_the_target_in_the_slot_of_the_queue(key, fits):
    layout = outward("stream", ToList(), key=key)
    assert layout.one_slot is fits

    class Clustered:
        clustered = True

    if fits:
        RespBackend(untyped(Clustered()), layout=layout)
    else:
        with pytest.raises(ConfigError, match="in a cluster the target .* must be in the slot of the queue's keys"):
            RespBackend(untyped(Clustered()), layout=layout)


@pytest.mark.parametrize("name", ["stream", "list", "faststream", "faststream-list", "taskiq", "taskiq-list", "celery"])
def test_every_outward_layout_fits_a_cluster_by_default_and_refuses_a_target_in_another_slot(name):
    assert Registry().layout(name).one_slot
    assert not Registry().layout(f"{name}:key=elsewhere").one_slot
    assert Registry().layout(f"{name}:key=prefix:{{{{queue}}}}").one_slot


def test_keys_of_layouts_differ_so_that_no_promoter_takes_jobs_of_another_layout():
    layouts = [CHASQUIMQ, *map(Registry().layout, ("stream", "list", "taskiq", "celery"))]
    assert len({layout.keys_of("q").delayed for layout in layouts}) == len(layouts)
    assert Registry().layout("celery:key=tasks").keys_of("q").stream == b"tasks"
    assert Registry().layout("celery:key=tasks").keys_of("promoter-doctor-1").stream.startswith(b"promoter-celery:{")


def test_the_acl_of_the_default_layout_is_the_documented_one():
    (text,) = re.findall(r"ACL SETUSER (promoter .*?)```", OUR_ACL.read_text(), re.S)
    assert set(CHASQUIMQ.acl()) <= set(text.split()) | {"+info"}
    assert set(text.split()) - set(CHASQUIMQ.acl()) == {"promoter", "on", ">password", "resetkeys"}


def test_the_acl_of_a_layout_names_its_target_and_its_commands():
    words = outward("list", ToList(Side.LEFT), key="m*:{queue}").acl("q")
    assert {"~promoter-list:{q}:*", "~m\\*:q", "+lpush", "+llen", "+ltrim"} <= set(words)


def test_a_rendered_script_has_nothing_left_to_decide():
    for move in (
        ToList(Side.LEFT),
        ToStream((("d", Part.PAYLOAD),)),
        ToStream((("a'\\\n", Part.ID), ("n", Part.NAME))),
    ):
        for script in ("promote", "change", "stats"):
            text = render(script, move)
            assert not re.search("^-- (layout|include) ", text, re.M)
    assert "'a\\039\\092\\010'" in render("promote", move), "a field's name is quoted"
    assert render("promote", ToList()) is render("promote", ToList()), "rendered once"
    assert "type(" not in render("promote"), "the loop of the default layout is as it was"


@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 70_000])
def test_parts_are_those_of_the_envelope(size):
    id, payload = "i" * min(max(size, 1), 512), b"\xff" * size
    for index in (True, False):
        envelope = pack_envelope(id, payload, 1, 0, index=index)
        assert part_of(Part.PAYLOAD, envelope, "n") == payload
        assert part_of(Part.ID, envelope, "n") == id.encode()
        assert part_of(Part.NAME, envelope, "n") == b"n"
        assert part_of(Part.ENVELOPE, envelope, "n") == envelope


@pytest.mark.parametrize(
    "envelope", [b"", b"\x94", b"\x94\xa1a", b"\x94\xa1a\xc0\0\0", b"\x94\xa1a\xc4\5ab", b"\x91\xc4\1a"]
)
def test_an_envelope_without_a_payload_of_bytes_has_none(envelope):
    with pytest.raises(ValueError):
        part_of(Part.PAYLOAD, envelope, "")


def test_data_that_cannot_be_a_layout_is_refused():
    with pytest.raises(ConfigError, match="not only its name or trace context"):
        ToStream((("n", Part.NAME),))
    with pytest.raises(ConfigError, match="holds envelope, payload, id, name, traceparent, tracestate, not"):
        ToStream((("n", untyped("everything")),))
    with pytest.raises(ConfigError, match="side must be left or right, not 'up'"):
        ToList(untyped("up"))
    with pytest.raises(ConfigError, match="before and after the queue's name"):
        Layout(name="x", start=b"", end=b"", delayed=b"d", lock=b"l", members=b"m", move=ToList(), target="t")


def test_code_that_blocks_works_by_a_layout():
    with sync.connect("fake://", layout="celery") as backend:
        queue = sync.DelayedQueue(backend, "q")
        queue.schedule(b"message", delay=60, job_id="a")
        assert str(queue.run_now("a")) == "promoted"
        assert queue.stats().stream_len == 1
    with pytest.raises(ConfigError, match="did you mean 'celery'"):
        sync.connect("fake://", layout="celry")
