"""Exceptions of a driver: each method turns them into the errors of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from promoter_core.spi import BackendError
from promoter_core.testing.conformance.base import ContractBase, needs_a_store_outside
from promoter_core.testing.conformance.closing import CALLS
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.interleaving import MOST_STEPS, HeldCall
from promoter_core.testing.conformance.obligations import obliges
from promoter_core.testing.faults import FaultyBackend

NO_DRIVER = {"wait", "subscribe"}  # they can wait for a flag of this process alone
ATTEMPTS = 3  # the first call of a backend can wait for something else, such as a subscription
RULE = "It raises only `TransientError` and `PermanentError`, never its driver's own exceptions"


class DriverErrorsContract(ContractBase):
    async def test_a_lost_connection_is_an_error_of_the_contract(self, kit: Kit) -> None:
        """It is lost at each await of each method in turn. An await can also be for something else than the driver.

        So a method is wrong if the driver's exception comes out of it wherever it is raised.
        """
        needs_a_store_outside(kit)
        backend, leaking = kit.backend.inner, dict[str, Exception]()
        while isinstance(backend, FaultyBackend):  # its delays are no driver's
            backend = backend.backend
        for method, calls in CALLS.items():
            if method in NO_DRIVER or not hasattr(backend, method):
                continue
            for _ in range(ATTEMPTS):
                outcomes = [outcome for call in calls for outcome in await _outcomes(backend, kit, call)]
                foreign = [o for o in outcomes if isinstance(o, Exception) and not isinstance(o, BackendError)]
                if not outcomes or len(foreign) < len(outcomes):
                    break
            else:
                leaking[method] = foreign[-1]
        obliges("Backend", RULE, not leaking, raised=leaking)


async def _outcomes(backend: Any, kit: Kit, call: Callable[[Any, str], Awaitable[Any]]) -> list[Any]:
    """Return the answer or the exception of such a call, for a connection that is lost at each of its awaits."""
    outcomes: list[Any] = []
    for step in range(1, MOST_STEPS + 1):

        async def made() -> Any:
            return await call(backend, kit.other().queue)

        under_way = HeldCall(made(), step)
        held = await under_way.held()
        under_way.release(ConnectionResetError("injected: the connection was lost"))
        outcome: Any = (await asyncio.gather(under_way.task, return_exceptions=True))[0]
        if not held:
            break
        outcomes.append(outcome)
    return outcomes
