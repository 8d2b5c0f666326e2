"""`ClusterDriver`: a `RedisDriver` for each primary of a cluster, and redis-py's knowledge of which slot is where.

All keys of a queue are in one slot, so each call goes to one node. What a node answers when a slot has moved, or is on
its way (MOVED, ASK, TRYAGAIN, CLUSTERDOWN), is a TransientError, and the slots are learnt anew before the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from promoter_core.ending import all_ended
from promoter_core.errors import BackendError, PermanentError, TransientError
from promoter_core.model import Wake
from promoter_redis.driver import RedisDriver
from promoter_redis.errors import translate
from promoter_resp.driver import Arg, Call, Changed
from promoter_resp.errors import closed_error
from promoter_resp.keys import START, QueueKeys

RELEARN = frozenset({"MOVED", "ASK", "CLUSTERDOWN", "READONLY", "CONNECTION", "TIMEOUT", "LOADING", "MASTERDOWN"})


class ClusterDriver:
    """`make_client` gives a RedisCluster, used for its topology only; `make_node` a driver for one node."""

    durable = True
    shared = True
    clustered = True

    def __init__(
        self,
        make_client: Callable[[], Any],
        make_node: Callable[[str, int], RedisDriver],
        *,
        where: str,
        timeout_s: float,
    ) -> None:
        self._make_client = make_client
        self._make_node = make_node
        self._where = where
        self._timeout_s = timeout_s
        self._topology: Any = None
        self._nodes: dict[tuple[str, int], RedisDriver] = {}
        self._changed: Changed | None = None
        self._learning = asyncio.Lock()
        self._stale = False
        self._closed = False

    @property
    def wake(self) -> Wake:
        """As good as that of the worst node in use."""
        polls = any(node.wake is Wake.POLL for node in self._nodes.values())
        return Wake.POLL if polls else Wake.ANY_WRITE

    async def open(self) -> None:
        self._closed = False
        await self._learn()

    async def close(self) -> None:
        self._closed = True
        nodes, self._nodes = self._nodes, {}
        topology, self._topology = self._topology, None
        known = [topology.aclose()] if topology is not None else []
        await all_ended(*(node.close() for node in nodes.values()), *known)

    async def ticks(self, calls: Sequence[Call]) -> list[Any]:
        """Those of each node in one round trip, all nodes at the same time. A node's own error is that of its calls."""
        by_node: dict[RedisDriver, list[int]] = {}
        replies: list[Any] = [None] * len(calls)
        for i, call in enumerate(calls):
            try:
                by_node.setdefault(await self._node(call.keys[0]), []).append(i)
            except BackendError as error:
                replies[i] = error
        nodes = [node.ticks([calls[i] for i in which]) for node, which in by_node.items()]
        answers = await asyncio.gather(*nodes, return_exceptions=True)
        for which, answer in zip(by_node.values(), answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, BackendError):
                raise answer
            for n, i in enumerate(which):
                replies[i] = answer if isinstance(answer, BackendError) else answer[n]
        for failed in {id(r): r for r in replies if isinstance(r, BackendError)}.values():
            self._judge(failed)
        return replies

    async def run(self, calls: Sequence[Call], after: Sequence[Arg] = ()) -> list[Any]:
        """All calls are of one queue, and so for one node."""
        replies: list[Any] = await self._at(calls[0].keys[0], lambda node: node.run(calls, after))
        return replies

    async def command(self, key: bytes, *args: Arg) -> Any:
        return await self._at(key, lambda node: node.command(key, *args))

    async def _at(self, key: bytes, use: Callable[[RedisDriver], Awaitable[Any]]) -> Any:
        """Use the node that has the key's slot. An error that may mean another topology has it learnt anew."""
        node = await self._node(key)
        try:
            return await use(node)
        except BackendError as error:
            self._judge(error)
            raise

    async def watch(self, keys: QueueKeys, changed: Changed) -> None:
        self._changed = changed
        await self._node(keys.lock)

    async def hear(self, changed: Changed) -> None:
        """From one node: a cluster passes what is published on to all of them."""
        self._changed = changed
        await (await self._node(START)).hear(changed)

    async def scan(self, match: bytes, type: str) -> AsyncIterator[Sequence[bytes]]:
        if self._stale or self._topology is None:
            await self._learn()
        for primary in self._topology.get_primaries():
            node = self._node_at(str(primary.host), int(primary.port))
            async for page in node.scan(match, type):
                yield page

    def _judge(self, error: BackendError) -> None:
        """After an error that may mean another topology: learn it anew, and look at everything again."""
        if error.code in RELEARN:
            self._stale = True
            if self._changed is not None:
                self._changed(None)

    async def _node(self, key: bytes) -> RedisDriver:
        if self._closed:
            raise closed_error()
        if self._stale or self._topology is None:
            await self._learn()
        found = self._topology.get_node_from_key(key.decode("utf-8", "surrogateescape"))
        if found is None:
            self._stale = True
            raise TransientError(
                f"no node of the cluster at {self._where} serves this queue's slot", code="CLUSTERDOWN"
            )
        node = self._node_at(str(found.host), int(found.port))
        if self._changed is not None:  # a queue that has moved here is watched here
            await node.listen(self._changed)
        return node

    def _node_at(self, host: str, port: int) -> RedisDriver:
        node = self._nodes.get((host, port))
        if node is None:
            node = self._nodes[host, port] = self._make_node(host, port)
        return node

    async def _learn(self) -> None:
        async with self._learning:
            if not self._stale and self._topology is not None:
                return
            old, client = self._topology, self._make_client()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await client.initialize()
            except BaseException as exc:
                await client.aclose()
                if not isinstance(exc, Exception):
                    raise
                error = translate(exc, self._where)
                if isinstance(exc, RedisError) and isinstance(error, PermanentError) and error.code == "UNEXPECTED":
                    error = TransientError(f"the cluster at {self._where} cannot be used: {exc}", code="CLUSTERDOWN")
                raise error from exc
            self._topology, self._stale = client, False
            if old is not None:
                await old.aclose()
            await self._forget_lost_nodes()

    async def _forget_lost_nodes(self) -> None:
        primaries = {(str(n.host), int(n.port)) for n in self._topology.get_primaries()}
        for address in [a for a in self._nodes if a not in primaries]:
            await self._nodes.pop(address).close()
