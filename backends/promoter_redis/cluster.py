"""`ClusterDriver`: a `RedisDriver` for each primary of a cluster, and the topology, which maps slots to nodes.

All keys of a queue are in one slot, so each call goes to one node. A node's answer about a slot that has moved or is
moving (MOVED, ASK, TRYAGAIN, CLUSTERDOWN) is a TransientError. After an error that may mean a changed topology, the
seeds and all nodes last known are asked for it in the background. If that fails, the old topology stays.

A node that does not answer in time is avoided until it answers a probe: its calls fail at once, so that those of the
other nodes do not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from redis.crc import key_slot

from promoter_core.spi import BackendError, PermanentError, QueueKeys, TransientError, Wake, closed_error
from promoter_redis.driver import RedisDriver
from promoter_redis.errors import translate
from promoter_redis.silence import Silence
from promoter_redis.topology import Address, Topology, read_topology, survey
from promoter_resp.driver import Arg, Call, Changed

log = logging.getLogger("promoter.redis")

DOUBTS = frozenset({"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "CONNECTION", "TIMEOUT", "LOADING", "MASTERDOWN"})
PAUSE_S = (0.1, 1.0)  # minimum and maximum pause between reads of the topology that find nothing new
PATIENCE_S = 0.1  # how long a call waits for a topology read in progress
REFRESH_S = 60.0  # maximum age of a topology before it is read again
CLOSE_S = 1.0  # for the nodes to close
DEAF_S = 1.0  # how long the node that sends announcements may be unreachable before another replaces it


class ClusterDriver:
    """`seeds` are the nodes of the URL. `make_node` returns a driver for one node, not yet open."""

    durable = True
    shared = True
    clustered = True

    def __init__(self, seeds: Sequence[Address], make_node: Callable[[str, int], RedisDriver], *, where: str) -> None:
        self._seeds = seeds
        self._make_node = make_node
        self._where = where
        self._topology = Topology(())
        self._nodes: dict[Address, RedisDriver] = {}
        self._silence = Silence(self._probe, self._everything_changed)
        self._changed: Changed | None = None
        self._looking: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()  # set while no topology read is in progress
        self._next_look_s = 0.0
        self._pause_s = 0.0
        self._hearing: asyncio.Task[None] | None = None
        self._heard_from: Address | None = None
        self._closing = set[asyncio.Task[None]]()
        self._closed = False

    @property
    def wake(self) -> Wake:
        """The worst value of the nodes in use."""
        polls = any(node.wake is Wake.POLL for node in self._nodes.values())
        return Wake.POLL if polls else Wake.ANY_WRITE

    async def open(self) -> None:
        self._closed = False
        self._settled.set()
        await self._look()

    async def close(self) -> None:
        self._closed = True
        tasks = [task for task in (self._looking, self._hearing) if task is not None]
        self._looking = self._hearing = self._heard_from = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._silence.close(), return_exceptions=True)
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            self._close(node)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_S)

    def _close(self, node: RedisDriver) -> None:
        """Close in the background: a caller that is cancelled halfway would leave a connection open."""
        task = asyncio.create_task(node.close(), name="promoter-cluster-close")
        self._closing.add(task)
        task.add_done_callback(self._closed_one)

    def _closed_one(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.debug("a node of the cluster at %s could not be closed properly: %s", self._where, error)

    async def run_tracked(self, calls: Sequence[Call]) -> list[Any]:
        """Run the calls of each node in one round trip, all nodes at the same time.

        An error of a node applies to its calls.
        """
        await self._settle()
        by_node: dict[Address, list[int]] = {}
        replies: list[Any] = [None] * len(calls)
        for i, call in enumerate(calls):
            try:
                by_node.setdefault(self._primary_of(call.keys[0]), []).append(i)
            except TransientError as error:
                replies[i] = error
        nodes = [self._tick(address, [calls[i] for i in which]) for address, which in by_node.items()]
        answers = await asyncio.gather(*nodes, return_exceptions=True)
        for (address, which), answer in zip(by_node.items(), answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, BackendError):
                raise answer
            for n, i in enumerate(which):
                replies[i] = answer if isinstance(answer, BackendError) else answer[n]
                if isinstance(replies[i], BackendError):
                    self._judge(address, replies[i])
        return replies

    async def _tick(self, address: Address, calls: Sequence[Call]) -> list[Any]:
        node = await self._answering(address)
        if self._changed is not None:  # a queue that moved to this node is tracked here
            await node.listen(self._changed)
        return await node.run_tracked(calls)

    async def run_scripts(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        """Run calls of one queue, and so of one node."""
        replies: list[Any] = await self._at(calls[0].keys[0], lambda node: node.run_scripts(calls, after))
        return replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._at(key, lambda node: node.command(key, *args))

    async def _at(self, key: bytes, use: Callable[[RedisDriver], Awaitable[Any]]) -> Any:
        """Use the node that has the key's slot."""
        await self._settle()
        address = self._primary_of(key)
        try:
            return await use(await self._answering(address))
        except BackendError as error:
            self._judge(address, error)
            raise

    async def track_writes(self, keys: QueueKeys, changed: Changed) -> None:
        """Listen to each node before its first tick."""
        self._changed = changed

    async def subscribe(self, changed: Changed) -> None:
        """Subscribe on one node at a time: a cluster forwards published messages to all nodes."""
        self._changed = changed
        if self._closed:
            raise closed_error()
        if self._hearing is None:
            await self._hear_from(_one_of(self._topology.primaries))
            self._hearing = asyncio.create_task(self._keep_hearing(), name="promoter-cluster-ear")

    async def _keep_hearing(self) -> None:
        """Follow the topology, and move to another node when the subscribed one is unavailable."""
        deaf_s = 0.0
        while True:
            await asyncio.sleep(DEAF_S / 5)
            node = None if self._heard_from is None else self._nodes.get(self._heard_from)
            deaf_s = 0.0 if node is not None and node.hears else deaf_s + DEAF_S / 5
            others = [a for a in self._topology.primaries if node is None or a != self._heard_from]
            if others and (node is None or deaf_s > DEAF_S):
                if node is not None:
                    node.hush()
                live = [a for a in others if a in self._nodes and self._nodes[a].wake is Wake.ANY_WRITE]
                await self._hear_from(_one_of(live or others))
                deaf_s = 0.0

    async def _hear_from(self, address: Address) -> None:
        self._heard_from = address
        if self._changed is not None:
            await self._node_at(address).subscribe(self._changed)

    async def scan(self, match: bytes) -> AsyncIterator[Sequence[bytes]]:
        """Scan all nodes that answer, and then raise the error of one that did not."""
        await self._settle()
        errors: list[BackendError] = []
        for address in self._topology.primaries:
            try:
                node = await self._answering(address)
                async for page in node.scan(match):
                    yield page
            except BackendError as error:
                self._judge(address, error)
                errors.append(error)
        if errors:
            raise next((error for error in errors if isinstance(error, PermanentError)), errors[0])

    def _primary_of(self, key: bytes) -> Address:
        """Return the node with the key's slot. If there is none, doubt the topology and raise TransientError."""
        address = self._topology.primary_of(key)
        if address is None:
            self._doubt()
            raise TransientError(
                f"no node of the cluster at {self._where} serves slot {key_slot(key)}, which is this queue's",
                code="CLUSTERDOWN",
            )
        return address

    async def _answering(self, address: Address) -> RedisDriver:
        """Return the node's driver. Raises TransientError when the node is known not to answer."""
        await self._silence.check(address)
        return self._node_at(address)

    def _node_at(self, address: Address) -> RedisDriver:
        if self._closed:
            raise closed_error()
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._make_node(*address)
        return node

    def _judge(self, address: Address, error: BackendError) -> None:
        """Judge from an error of a node whether the topology has changed."""
        if error.code == "TIMEOUT":
            self._silence.begin(address, error)
        if error.code in DOUBTS:
            self._doubt()

    def _everything_changed(self) -> None:
        if self._changed is not None:
            self._changed(None)

    async def _probe(self, address: Address) -> None:
        """Check on a new connection whether the node answers."""
        node = self._make_node(*address)
        try:
            await node.open()
        finally:
            self._close(node)

    async def _settle(self) -> None:
        """Wait briefly for a pending topology request."""
        if self._closed:
            raise closed_error()
        if asyncio.get_running_loop().time() > self._next_look_s + REFRESH_S:
            self._doubt()
        if not self._settled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await self._settled.wait()

    def _doubt(self) -> None:
        """Request the topology soon, in the background: it may have changed."""
        if not self._closed and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look_again(), name="promoter-cluster-look")

    async def _look_again(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._next_look_s - loop.time(), 0.0))
        self._settled.clear()
        before = self._topology
        try:
            await self._look()
        except BackendError as error:
            log.debug("cannot get the topology of the cluster at %s: %s", self._where, error)
        finally:
            self._settled.set()
        if (before.ranges, before.replicas) == (self._topology.ranges, self._topology.replicas):
            self._pause_s = min(max(self._pause_s * 2, PAUSE_S[0]), PAUSE_S[1])
        else:
            self._pause_s = 0.0
            log.info("the cluster at %s has %d primaries now", self._where, len(self._topology.primaries))
        self._next_look_s = loop.time() + self._pause_s
        self._everything_changed()
        self._silence.keep(self._topology.nodes)
        for address in [a for a in self._nodes if a not in self._topology.primaries]:
            self._close(self._nodes.pop(address))

    async def _look(self) -> None:
        """Ask the seeds and all nodes last known for the topology.

        Raises BackendError when none answers; the old topology stays.
        """
        addresses = list(self._topology.nodes.union(self._seeds))
        random.shuffle(addresses)
        found = await survey(addresses, self._ask)
        if not found.ranges:
            raise TransientError(f"the cluster at {self._where} has no node with slots", code="CLUSTERDOWN")
        self._topology = found
        self._next_look_s = asyncio.get_running_loop().time()

    async def _ask(self, address: Address) -> Topology:
        """Ask on a new connection: the others may be half-open, or all in use."""
        node = self._make_node(*address)
        try:
            slots = await node.command(b"", b"CLUSTER", b"SLOTS")
            try:
                info = await node.command(b"", b"CLUSTER", b"INFO")
            except PermanentError:  # not permitted; it only helps to choose among replies
                info = b""
            return read_topology(slots, info, address)
        except BackendError:
            raise
        except Exception as exc:  # a reply of unexpected shape
            raise translate(exc, f"{address[0]}:{address[1]}") from exc
        finally:
            self._close(node)


def _one_of(addresses: Sequence[Address]) -> Address:
    return random.choice(addresses)  # noqa: S311  # to spread the load of many processes
