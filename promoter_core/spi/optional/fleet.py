"""`FleetSupport`: a backend on which one process can serve thousands of queues, and share them with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promoter_core.spi.backend import Backend
from promoter_core.spi.errors import BackendError
from promoter_core.spi.model import Lease, LeaseHeld, LeaseLost, Promotion, PromotionRequest, Renewal
from promoter_core.spi.optional.discovery import DiscoverySupport


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Changes in the queues of a backend, some of them only possible."""

    everything: bool = False  # then the rest does not matter
    jobs: frozenset[str] = frozenset()  # queues whose sorted set changed
    locks: frozenset[str] = frozenset()  # queues whose lock changed
    members: bool = False  # of a group


@dataclass(frozen=True, slots=True)
class Members:
    """The processes that share the work on a group of queues."""

    names: frozenset[str]
    next_expiry_ms: int | None  # until the first other member expires; None when alone


@runtime_checkable
class FleetSupport(DiscoverySupport, Protocol):
    """Finds queues, and serves many of them in few round trips. Optional: `PromoterFleet` needs it.

    Answers come in the order asked. An answer that is an error concerns that queue alone; what concerns all of them is
    raised.
    """

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        """`lock` for each queue, in one round trip where the store can."""
        ...

    async def promote_many(
        self, requests: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        """`promote` for each queue, each atomic for itself, in one round trip where the store can."""
        ...

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost | BackendError]:
        """Start each lease anew whose lock is still its holder's, for its own `ttl_ms`, and look at the queue's head.

        The answer is a `Renewal` with what is due and what comes next, by the store's clock: so a change that `wait` or
        a feed has missed is noticed within one renewal. `LeaseLost` where the lock is not the holder's: nothing changes
        there. In one round trip where the store can.
        """
        ...

    async def subscribe(self) -> ChangeFeed:
        """Begin to collect what changes, in all queues, from now on."""
        ...

    async def announce(self, queues: Sequence[str]) -> None:
        """Have the feeds of other processes report these queues.

        In one round trip where the store can. Best effort: an error does not say which of them were announced.
        """
        ...

    async def join_group(self, group: str, member: str, ttl_ms: int) -> Members:
        """Be a member of a group for `ttl_ms` milliseconds of the store's clock; all members of now, atomically.

        `Members.next_expiry_ms` is the interval, by the store's clock, until the first of the others expires. Joining
        again starts the membership anew, for longer or shorter; that of the others stays as it is.

        The feeds of other members report a new one, where `capabilities.wake` is not POLL.
        """
        ...

    async def leave_group(self, group: str, member: str) -> None:
        """Be a member no longer. The feeds of the others report it as a new one."""
        ...


@runtime_checkable
class ChangeFeed(Protocol):
    """Collects changes in the queues of a backend, for one reader."""

    async def next(self, timeout_s: float) -> Changes:
        """Sleep for `timeout_s` seconds, or less when something changed; what has changed since the last call.

        Reports everything for which `Backend.wait` would end. Every feed does, whatever the others have told and
        whether they have been closed. What changes between two calls is reported by the second. Too much may be
        reported, and queues that nobody knows yet are reported too. Never raises; after the backend is closed it tells
        that everything changed.
        """
        ...

    def close(self) -> None:
        """Collect no longer."""
        ...


class FleetBackend(Backend, FleetSupport, Protocol):
    """A backend that a `PromoterFleet` can run on."""
