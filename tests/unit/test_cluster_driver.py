"""`ClusterDriver` on nodes that do what the test says."""

from __future__ import annotations

import asyncio

import pytest

from promoter_core import TransientError
from promoter_core.spi import Wake
from promoter_redis.cluster import ClusterDriver


class Nodes:
    """Makes nodes that know the topology, and counts those that are not closed."""

    def __init__(self):
        self.unclosed = 0
        self.moved = False

    def make(self, host, port):
        self.unclosed += 1
        return Node(self)


class Node:
    wake = Wake.ANY_WRITE

    def __init__(self, nodes):
        self._nodes = nodes

    async def command(self, key, *words):
        await asyncio.sleep(0)
        if words == (b"CLUSTER", b"SLOTS"):
            return [[0, 16383, [b"a", 1, b"id"]]]
        if self._nodes.moved and words[0] != b"CLUSTER":
            raise TransientError("MOVED: 1 b:2", code="MOVED")
        return b""

    async def close(self):
        for _ in range(20):  # as a connection that waits until its transport is closed
            await asyncio.sleep(0)
        self._nodes.unclosed -= 1


@pytest.mark.parametrize("turns", range(60))
async def test_no_connection_stays_open_whenever_the_driver_is_closed_during_a_look(turns):
    nodes = Nodes()
    driver = ClusterDriver([("a", 1), ("b", 2), ("c", 3)], nodes.make, where="a:1")
    await driver.open()
    nodes.moved = True
    with pytest.raises(TransientError):
        await driver.command(b"k", b"GET", b"k")
    for _ in range(turns):  # as far as the look has come
        await asyncio.sleep(0)
    await driver.close()
    assert nodes.unclosed == 0
    with pytest.raises(TransientError, match="closed"):
        await driver.command(b"k", b"GET", b"k")
