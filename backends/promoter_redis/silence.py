"""`Silence`: the nodes of a cluster that did not answer in time, each probed until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set

from promoter_core.spi import BackendError
from promoter_redis.topology import Address

PATIENCE_S = 0.1  # how long calls to a node wait for its first probe
AGAIN_S = 0.2  # time between probes


class Silence:
    """`probe` checks on a new connection that a node answers, within a command's timeout.

    `broken` is called whenever a node answers again.
    """

    def __init__(self, probe: Callable[[Address], Awaitable[None]], broken: Callable[[], None]) -> None:
        self._probe = probe
        self._broken = broken
        self._silent: dict[Address, tuple[BackendError, float, asyncio.Task[None]]] = {}

    def begin(self, address: Address, error: BackendError) -> None:
        """Record that the node did not answer in time."""
        if address not in self._silent:
            task = asyncio.create_task(self._until_heard(address), name="promoter-cluster-probe")
            self._silent[address] = error, asyncio.get_running_loop().time(), task

    async def check(self, address: Address) -> None:
        """Raise the node's error if it is silent.

        At first, wait for its probe: it may have been a single connection.
        """
        if address not in self._silent:
            return
        error, began_s, task = self._silent[address]
        left_s = began_s + PATIENCE_S - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.wait((task,), timeout=left_s)
        if address in self._silent:
            raise type(error)(str(error), code=error.code)

    def keep(self, addresses: Set[Address]) -> None:
        """Forget all other nodes, which have left the cluster."""
        for address in self._silent.keys() - addresses:
            self._silent.pop(address)[2].cancel()

    async def close(self) -> None:
        tasks = [task for _, _, task in self._silent.values()]
        self._silent.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_heard(self, address: Address) -> None:
        while True:
            try:
                await self._probe(address)
                break
            except BackendError as error:
                if error.code != "TIMEOUT":  # it refuses the connection or is gone, which a call notices as quickly
                    break
            await asyncio.sleep(AGAIN_S)
        self._silent.pop(address, None)
        self._broken()
