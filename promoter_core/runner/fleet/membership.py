"""`Membership`: being one of several processes that share the work on the same queues."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from promoter_core.runner.fleet.rendezvous import Rendezvous, fingerprint
from promoter_core.spi.errors import BackendError, PermanentError
from promoter_core.spi.optional.fleet import FleetSupport

log = logging.getLogger("promoter.fleet")

HEARTBEAT = 0.4  # interval of heartbeats, as a fraction of the time to live
MIN_INTERVAL_S = 0.05  # minimum interval between heartbeats, even if members change often
RETRY_S = 0.2  # before a failed heartbeat is retried


def group_of(queues: Iterable[str], patterns: Iterable[str]) -> str:
    """Return the group of these queues and patterns: processes that serve the same ones share it."""
    text = "\n".join([*sorted(set(queues)), "", *sorted(set(patterns))])
    return f"{fingerprint(text):016x}"


class Membership:
    """Decides which queues `me` should lead. Membership expires with the lease unless it is renewed in time.

    Heartbeats run ahead of lock renewal, so a dead member leaves the group no later than its locks expire. The others
    know when that is, and take over then.
    """

    def __init__(self, backend: FleetSupport, group: str, me: str, ttl_ms: int) -> None:
        self.next_s = 0.0  # when the next heartbeat is due
        self._backend = backend
        self._group = group
        self._me = me
        self._ttl_ms = ttl_ms
        self._rendezvous = Rendezvous()
        self._last_s = float("-inf")
        self._good_s = float("-inf")  # the last successful heartbeat
        self._warned = False  # a refusal by the server was logged

    @property
    def joined(self) -> bool:
        return bool(self._rendezvous.members)

    def age_s(self, now_s: float) -> float:
        """Return the seconds since membership was last renewed."""
        return now_s - self._good_s

    def owns(self, queue: str) -> bool:
        return self._rendezvous.owner(queue) == self._me

    def add_queue(self, queue: str) -> None:
        self._rendezvous.add_queue(queue)

    def drop_queue(self, queue: str) -> None:
        self._rendezvous.drop_queue(queue)

    def expedite(self) -> None:
        """Send a heartbeat soon, because members may have joined or left."""
        self.next_s = min(self.next_s, self._last_s + MIN_INTERVAL_S)

    async def heartbeat(self, now_s: float) -> bool:
        """Renew membership and read the members. Return whether they have changed.

        Raises PermanentError when the server refuses us before we were ever a member.
        """
        self._last_s = now_s
        try:
            members = await self._backend.join_group(self._group, self._me, self._ttl_ms)
        except BackendError as exc:
            self._failed(exc)
            self.next_s = now_s + RETRY_S
            return False
        self._good_s, self._warned = now_s, False
        beat_s = HEARTBEAT * self._ttl_ms / 1000
        if members.next_expiry_ms is not None:
            beat_s = min(beat_s, (members.next_expiry_ms + 1) / 1000)
        self.next_s = now_s + beat_s
        if members.names != self._rendezvous.members:
            if len(members.names) > 1:
                log.info("%d processes share the queues", len(members.names))
            else:
                log.info("no other process shares the queues")
        return self._rendezvous.set_members(members.names)

    def _failed(self, error: BackendError) -> None:
        if not isinstance(error, PermanentError):
            log.debug("membership could not be renewed: %s", error)  # the queues report an outage
            return
        if not self.joined:
            raise error
        if not self._warned:
            self._warned = True
            log.warning("the server refuses to renew membership of the group that shares the queues: %s", error)

    async def leave(self) -> None:
        with suppress(BackendError):
            await self._backend.leave_group(self._group, self._me)
