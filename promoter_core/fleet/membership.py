"""`Membership`: being one of several processes that share the work on the same queues."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from promoter_core.contracts import ManyQueues
from promoter_core.errors import BackendError, PermanentError
from promoter_core.fleet.rendezvous import Rendezvous, fingerprint

log = logging.getLogger("promoter.fleet")

CALM_S = 0.05  # between beats, however often members come and go
AGAIN_S = 0.2  # after a beat that failed


def group_of(queues: Sequence[str], patterns: Sequence[str]) -> str:
    """Processes that serve the same queues and patterns are one group."""
    text = "\n".join([*sorted(set(queues)), "", *sorted(set(patterns))])
    return f"{fingerprint(text):016x}"


class Membership:
    """Says which queues are `me`'s to lead. Membership ends with the lease, if it is not renewed in time.

    A beat renews it before the locks are renewed, so that a member that has died is one no longer when its locks end,
    and the others, who know when that is, take over then.
    """

    def __init__(self, backend: ManyQueues, group: str, me: str, ttl_ms: int) -> None:
        self.next_s = 0.0  # when the next beat is due
        self._backend = backend
        self._group = group
        self._me = me
        self._ttl_ms = ttl_ms
        self._rendezvous = Rendezvous()
        self._last_s = float("-inf")
        self._good_s = float("-inf")  # the last beat that was heard
        self._warned = False  # that the server refuses beats

    @property
    def joined(self) -> bool:
        return bool(self._rendezvous.members)

    def age_s(self, now_s: float) -> float:
        """Since membership was last renewed."""
        return now_s - self._good_s

    def mine(self, queue: str) -> bool:
        return self._rendezvous.owner(queue) == self._me

    def add_queue(self, queue: str) -> None:
        self._rendezvous.add_queue(queue)

    def drop_queue(self, queue: str) -> None:
        self._rendezvous.drop_queue(queue)

    def hurry(self) -> None:
        """Members may have come or gone: beat soon."""
        self.next_s = min(self.next_s, self._last_s + CALM_S)

    async def beat(self, now_s: float) -> bool:
        """Stay a member and see who else is one; whether that has changed.

        Raises PermanentError when the server refuses us before we have ever been a member.
        """
        self._last_s = now_s
        try:
            members = await self._backend.join(self._group, self._me, self._ttl_ms)
        except BackendError as exc:
            self._failed(exc)
            self.next_s = now_s + AGAIN_S
            return False
        self._good_s, self._warned = now_s, False
        beat_s = self._ttl_ms / 3000
        if members.next_expiry_ms is not None:
            beat_s = min(beat_s, (members.next_expiry_ms + 1) / 1000)
        self.next_s = now_s + beat_s
        if members.names != self._rendezvous.members:
            log.info("%d processes share the queues", len(members.names))
        return self._rendezvous.set_members(members.names)

    def _failed(self, error: BackendError) -> None:
        if not isinstance(error, PermanentError):
            log.debug("membership could not be renewed: %s", error)  # an outage is reported by the queues
            return
        if not self.joined:
            raise error
        if not self._warned:
            self._warned = True
            log.warning("the server refuses to renew membership of the group that shares the queues: %s", error)

    async def leave(self) -> None:
        with suppress(BackendError):
            await self._backend.leave(self._group, self._me)
