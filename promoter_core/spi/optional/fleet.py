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
    """Changes in the queues of a backend. Some of them are only possible changes."""

    everything: bool = False  # anything can have changed; the other fields do not matter
    jobs: frozenset[str] = frozenset()  # queues whose sorted set changed
    locks: frozenset[str] = frozenset()  # queues whose lock changed
    members: bool = False  # the members of a group changed


@dataclass(frozen=True, slots=True)
class Members:
    """The processes that share the work on a group of queues."""

    names: frozenset[str]
    next_expiry_ms: int | None  # interval until the first other member expires; None when alone


@runtime_checkable
class FleetSupport(DiscoverySupport, Protocol):
    """Finds queues, and serves many of them in few round trips. Optional: `PromoterFleet` needs it.

    Answers are in the order of the arguments. An error among the answers concerns only that queue; an error that
    concerns all queues is raised.
    """

    async def lock_many(
        self, queues: Sequence[str], holder: str, ttl_ms: int
    ) -> Sequence[Lease | LeaseHeld | BackendError]:
        """Call `lock` for each queue, in one round trip if the store can."""
        ...

    async def promote_many(
        self, requests: Sequence[tuple[Lease, PromotionRequest]]
    ) -> Sequence[Promotion | LeaseLost | BackendError]:
        """Call `promote` for each queue, each atomically, in one round trip if the store can."""
        ...

    async def renew_many(self, leases: Sequence[Lease]) -> Sequence[Renewal | LeaseLost | BackendError]:
        """Restart each lease whose holder still has the lock, for its own `ttl_ms`, and read the head of the queue.

        Each answer is a `Renewal` with what is due and what comes next, by the store's clock, so a change that `wait`
        or a feed has missed is noticed within one renewal. `LeaseLost` if the lock is not the holder's; nothing changes
        there. In one round trip if the store can.
        """
        ...

    async def subscribe(self) -> ChangeFeed:
        """Start collecting changes in all queues."""
        ...

    async def announce(self, queues: Sequence[str]) -> None:
        """Make the feeds of other processes report these queues.

        In one round trip if the store can. Best effort: an error does not say which queues were announced.
        """
        ...

    async def join_group(self, group: str, member: str, ttl_ms: int) -> Members:
        """Join a group for `ttl_ms` milliseconds of the store's clock, and return its current members, atomically.

        `Members.next_expiry_ms` is the interval, by the store's clock, until the first other member expires. Joining
        again restarts the membership, for a longer or shorter time, and leaves those of the others unchanged.

        The feeds of other members report a new one, unless `capabilities.wake` is POLL.
        """
        ...

    async def leave_group(self, group: str, member: str) -> None:
        """Leave a group. The feeds of the other members report it, like a join."""
        ...


@runtime_checkable
class ChangeFeed(Protocol):
    """Collects changes in the queues of a backend, for one reader."""

    async def next(self, timeout_s: float) -> Changes:
        """Sleep for up to `timeout_s` seconds, until something changes. Return the changes since the last call.

        Reports every change that would end `Backend.wait`. Each feed does so independently of what other feeds report
        and whether they are closed. A change between two calls is reported by the second. A feed can report too much,
        including queues that nobody knows yet. A call that is cancelled takes no change with it: the next one reports
        it. Never raises; after the backend is closed it reports that everything changed.
        """
        ...

    def close(self) -> None:
        """Stop collecting."""
        ...


class FleetBackend(Backend, FleetSupport, Protocol):
    """A backend that can run a `PromoterFleet`."""
