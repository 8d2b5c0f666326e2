"""Nodes of a cluster describe its topology; the best answer is believed."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import PermanentError, TransientError
from promoter_redis import topology
from promoter_redis.topology import Topology, read_topology, survey

ASKED = ("seed.example", 7000)
A, B, C = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
OK = b"cluster_enabled:1\r\ncluster_state:ok\r\ncluster_current_epoch:6\r\n"


def node(host, port, *more):
    return [host, port, b"id", *more]


def test_ranges_replicas_state_and_epoch_are_read():
    slots = [
        [5461, 16383, node(b"10.0.0.2", 2), node(b"10.0.0.3", 3, [])],
        [0, 5460, node(b"10.0.0.1", 1, [])],
    ]
    read = read_topology(slots, OK, ASKED)
    assert read == Topology(((0, 5460, A), (5461, 16383, B)), frozenset({C}), True, 6)
    assert read.primaries == (A, B)
    assert read.nodes == {A, B, C}
    assert not read_topology(slots, b"cluster_state:fail\r\n", ASKED).ok
    assert read_topology(slots, b"", ASKED).ok, "when CLUSTER INFO is not permitted"


@pytest.mark.parametrize(
    ("primary", "address"),
    [
        (node(None, 7001), ("seed.example", 7001)),  # cluster-preferred-endpoint-type unknown-endpoint
        (node(b"", 7001), ("seed.example", 7001)),  # a node that has met no other
        (node(b"?", 7001, []), ("seed.example", 7001)),
        (node(b"?", 7001, [b"ip", b"10.0.0.9"]), ("10.0.0.9", 7001)),  # hostname preferred, and none configured
        (node(b"a.example", 7001, [b"ip", b"10.0.0.9"]), ("a.example", 7001)),
        (node(b"::1", 7001), ("::1", 7001)),
    ],
)
def test_a_node_that_does_not_know_its_address_has_that_by_which_it_was_reached(primary, address):
    read = read_topology([[0, 16383, primary, primary]], OK, ASKED)
    assert read.primaries == (address,)
    assert read.replicas == {address}


def test_a_keys_slot_is_that_of_its_hash_tag_and_may_be_served_by_nobody():
    read = Topology(((0, 5460, A), (10923, 12181, B), (12183, 16383, C)))
    assert read.primary_of(b"{foo}:delayed") == read.primary_of(b"foo")  # slot 12182
    assert read.primary_of(b"foo") is None
    assert read.primary_of(b"bar") == A  # slot 5061
    assert Topology(((0, 12182, A),)).primary_of(b"foo") == A
    assert Topology(((12182, 12182, A),)).primary_of(b"foo") == A
    assert Topology(()).primary_of(b"foo") is None


def asker(answers, asked):
    async def ask(address):
        asked.append(address)
        answer = answers[address]
        if answer is None:  # it never answers
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


AWAY, REFUSED = TransientError("away", code="CONNECTION"), PermanentError("no", code="NOAUTH")
GOOD = Topology(((0, 16383, A),), epoch=3)
FIRST_COME = [
    ({A: GOOD, B: AWAY, C: AWAY}, GOOD),
    ({A: AWAY, B: None, C: GOOD}, GOOD),
    ({A: REFUSED, B: GOOD, C: AWAY}, GOOD),
    ({A: Topology(()), B: GOOD, C: AWAY}, GOOD),  # started anew: it knows nobody
    ({A: Topology(((0, 16383, B),), epoch=2), B: AWAY, C: GOOD}, GOOD),  # it has missed a fail-over
    ({A: Topology(((0, 16383, B),), ok=False, epoch=4), B: AWAY, C: GOOD}, GOOD),  # cut off from the majority
    ({A: Topology(()), B: AWAY, C: AWAY}, Topology(())),
]


@pytest.mark.parametrize(("answers", "best"), FIRST_COME)
async def test_the_best_answer_is_taken(answers, best):
    assert await survey([A, B, C], asker(answers, [])) == best


async def test_more_nodes_are_asked_only_while_none_has_an_answer(monkeypatch):
    monkeypatch.setattr(topology, "STAGGER_S", 0.01)
    nodes = [("n", i) for i in range(20)]
    asked: list[object] = []
    assert await survey(nodes, asker(dict.fromkeys(nodes, GOOD), asked)) == GOOD
    assert len(asked) == topology.AT_ONCE
    asked = []
    mute = dict.fromkeys(nodes[:10]) | dict.fromkeys(nodes[10:], GOOD)
    assert await survey(nodes, asker(mute, asked)) == GOOD
    assert 10 < len(asked) < 10 + 2 * topology.AT_ONCE


@pytest.mark.parametrize(
    ("answers", "cls"),
    [({A: REFUSED, B: REFUSED}, PermanentError), ({A: REFUSED, B: AWAY}, TransientError), ({}, TransientError)],
)
async def test_what_all_nodes_refuse_for_good_is_permanent(answers, cls):
    with pytest.raises(cls) as raised:
        await survey(list(answers), asker(answers, []))
    assert type(raised.value) is cls
    if AWAY in answers.values():
        assert str(raised.value) == "away; another node says: no"
