"""Layouts in place as data: what is checked, whose keys they name, and what their scripts are rendered to."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from promoter_core import ConfigError, PermanentError, Registry
from promoter_core.spi import LayoutSupport, ManagementSupport, Side, in_place
from promoter_resp.in_place_backend import InPlaceBackend
from promoter_resp.rendering import render
from tests.typed import untyped

MAIL = in_place.InPlace(
    name="mail", source="mail:{queue}:later", moves=in_place.Pushes((in_place.Push("mail:{queue}"),))
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "mail"}, "source must be a key with {queue} in it, once"),
        ({"source": "mail", "queues": ("a", "b")}, "is one key for all of its queues"),
        ({"moves": in_place.Pushes(())}, "the first push must be that of the member"),
        ({"moves": in_place.Pushes((in_place.Push("a", value="1"),))}, "the first push must be that of the member"),
        (
            {"moves": in_place.Entry("a", (("score", in_place.Held.SCORE),))},
            "a field of the entry must hold the member",
        ),
        ({"moves": in_place.Lua(body="")}, "writes must name the keys and the commands"),
        ({"take": in_place.Take.RESCORE}, "need a floor above it"),
        ({"take": in_place.Take.RESCORE, "floor": "-1"}, "need a floor above it"),
        ({"floor": "(1"}, "floor must be a score, such as 1, not '(1'"),
        ({"floor": "nan"}, "floor must be a score"),
        ({"their_lock": "lock"}, "belong together"),
        ({"beside": in_place.Beside.SHARED_LOCK}, "belong together"),
    ],
)
def test_data_that_cannot_work_is_said_in_one_line(changes, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(MAIL, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sidekiqq", "unknown layout 'sidekiqq'; did you mean 'sidekiq'?"),
        ("sidekiq:prefx=a", "did you mean 'prefix'?"),
        ("laravel:early=perhaps", "early must be true or false, not 'perhaps'"),
        ("laravel:prefix={a}", "prefix must be the beginning of keys"),
    ],
)
def test_options_that_cannot_work_are_said_in_one_line(text, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Registry().layout(text)


async def test_a_queue_that_the_framework_does_not_have_is_named_with_its_neighbour():
    layout = Registry().layout("sidekiq")
    with pytest.raises(
        PermanentError, match=re.escape("Sidekiq has the queues schedule and retry, not 'schedul'; did")
    ):
        layout.keys_of("schedul")


def test_keys_of_ours_are_those_of_the_set_whatever_the_layout_is():
    other = replace(MAIL, name="other", moves=in_place.Pushes((in_place.Push("x:{queue}"),)))
    assert other.keys_of("q").lock == MAIL.keys_of("q").lock == b"promoter-in-place:{mail:q:later}:lock"
    one, two = (Registry().layout(f"laravel:prefix={prefix}").keys_of("default") for prefix in ("a_", "b_"))
    assert one.lock != two.lock
    assert one.dlq != two.dlq
    assert MAIL.group_keys("g") != Registry().layout("laravel").group_keys("g")


def test_a_lock_of_theirs_is_the_lock():
    shared = replace(MAIL, their_lock="mail:{queue}:lock", beside=in_place.Beside.SHARED_LOCK)
    assert shared.keys_of("q").lock == b"mail:q:lock"
    assert shared.head_of(b"mail:q:lock") == "q"


@pytest.mark.parametrize("queue", ["default", "a:b", "ä"])
@pytest.mark.parametrize("name", ["laravel:prefix=app[1]_", "laravel:cluster=true"])
def test_queues_are_found_by_the_keys_of_their_sets_and_locks(name, queue):
    layout = Registry().layout(name)
    k = layout.keys_of(queue)
    assert {layout.head_of(k.delayed), layout.head_of(k.lock)} == {queue}
    assert layout.head_of(b"other:" + k.delayed) is None
    assert layout.head_of(k.dlq) is None
    members, _ = layout.group_keys("g")
    assert layout.change_of(members) is not None
    globs = layout.heads_globs([queue[:1] + "*"])
    assert all(queue[:1].encode() in glob for glob in globs)


def test_a_cluster_needs_all_keys_in_one_slot():
    class Clustered:
        clustered = True

    tagged, plain, sidekiq = map(Registry().layout, ("laravel:cluster=true", "laravel", "sidekiq"))
    InPlaceBackend(untyped(Clustered()), layout=untyped(tagged))
    assert tagged.keys_of("q").lock == b"promoter-in-place:queues:{q}:delayed:lock"
    for layout in (plain, sidekiq):
        with pytest.raises(ConfigError, match="in a cluster the keys of .* must be in one slot"):
            InPlaceBackend(untyped(Clustered()), layout=untyped(layout))


def test_the_acl_is_that_of_the_keys_which_a_move_writes():
    words = set(Registry().layout("sidekiq").acl())
    assert {"~queues", "~queue:*", "+sadd", "+lpush"} <= words
    assert not words & {"~*", "allkeys"}
    words = set(Registry().layout("laravel:prefix=a*_").acl("default"))
    own = "~promoter-in-place:{a\\*_queues:default:delayed}:*"
    assert {"~a\\*_queues:default:delayed", "~a\\*_queues:default:notify", own, "+rpush"} <= words


def test_a_rendered_script_has_nothing_left_to_decide():
    stream = replace(MAIL, moves=in_place.Entry("s", (("a'", in_place.Held.MEMBER), ("t", in_place.Held.SCORE))))
    left = replace(MAIL, moves=in_place.Pushes((in_place.Push("s", Side.LEFT), in_place.Push("n", value="1"))))
    for layout in (MAIL, stream, left, *map(Registry().layout, ("sidekiq", "laravel"))):
        for script in ("in_place", "lock", "renew", "stats"):
            text = render(script, layout)
            assert not re.search("^-- (layout|include) |<[a-z_]+>", text, re.M)
    assert "'a\\039', member, 't', score" in render("in_place", stream)
    assert "pcall('LPUSH', target, member)" in render("in_place", left)
    assert render("in_place", MAIL) is render("in_place", MAIL), "rendered once"


async def test_what_only_our_own_format_has_is_refused_in_one_sentence():
    async with Registry().connect("fake://", layout="sidekiq") as backend:
        assert isinstance(backend, LayoutSupport)
        assert isinstance(backend, ManagementSupport)
        for call in (
            backend.schedule("schedule", []),
            backend.cancel("schedule", ["a"]),
            backend.get_jobs("schedule", ["a"]),
            backend.change_jobs("schedule", []),
        ):
            with pytest.raises(PermanentError, match="this set belongs to Sidekiq; schedule with Sidekiq"):
                await call


REFERENCE = Path(__file__).parents[2] / "docs/reference/wire-format.md"
UNITS = {
    (in_place.Score.MS, False): "ms",
    (in_place.Score.S, False): "seconds",
    (in_place.Score.S, True): "whole seconds",
}
BESIDE = {in_place.Beside.SAFE: "safe", in_place.Beside.SHARED_LOCK: "under its lock", in_place.Beside.NEVER: "never"}


def in_place_layouts():
    ours = [r.spec.name for r in Registry().all() if r.kind == "layout" and r.source.startswith("promoter-core ")]
    return [layout for layout in map(Registry().layout, ours) if isinstance(layout, in_place.InPlace)]


@pytest.mark.parametrize("layout", in_place_layouts(), ids=lambda layout: layout.name)
def test_the_reference_table_is_that_of_the_data(layout):
    (row,) = re.findall(rf"^\| `{layout.name}` \| (.*) \|$", REFERENCE.read_text(), re.M)
    _, where, writes, beside, tested = row.split(" | ")
    sets, _, unit = where.rpartition("; ")
    assert unit == UNITS[layout.score, layout.whole]
    names = layout.queues or ("Q",)
    sources = {layout.source.replace("{queue}", name) for name in names}
    patterns = [shown(text) for text in re.findall("`([^`]+)`", sets)]
    assert all(any(re.fullmatch(pattern, source) for pattern in patterns) for source in sources), sets
    assert beside == BESIDE[layout.beside]
    assert tested.lower() == (", ".join(layout.tested).lower() or "not run")
    patterns = [shown(text) for text in re.findall("`([^`]+)`", writes)]
    for write in layout.all_writes:
        key = write.key.replace("{queue}", "Q").replace("*", "X").rstrip(":")
        assert any(re.fullmatch(pattern, key) for pattern in patterns), f"{write.key} is not in the table"


def shown(text):
    """The pattern of a key in the table: `<q>` stands for the queue, `<p>` for a prefix that may be empty."""
    parts = re.split(r"(<[^>]+>)", text)
    return "".join({"<q>": "[QX]", "<p>": ".*"}.get(p, ".+") if p.startswith("<") else re.escape(p) for p in parts)
