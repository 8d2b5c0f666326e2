"""`Renewals`: the calls that renew many leases. An idle fleet repeats the same ones, so they are cached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from promoter_core.spi import Layout, Lease, chunked, to_bytes
from promoter_resp.driver import Call, Script
from promoter_resp.rendering import form_of

RENEWED_AT_ONCE = 500  # locks renewed in one script call, so that no call blocks the server for long
KEPT = 64  # lists of leases whose calls are cached


class Renewals:
    """Caches the calls for the most recent lists of leases."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._script = Script("renew", form_of(layout))
        self._kept: dict[str, tuple[list[Lease], bool, list[Call]]] = {}  # by the first queue of each list

    def calls(self, leases: Sequence[Lease], *, clustered: bool) -> list[Call]:
        """Return the calls that renew these, in their order; in a cluster, one for each lease."""
        first = leases[0].queue
        kept = self._kept.pop(first, None)
        if kept is None or kept[0] != leases or kept[1] is not clustered:
            kept = list(leases), clustered, self._calls(leases, clustered=clustered)
        self._kept[first] = kept
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return kept[2]

    def _calls(self, leases: Sequence[Lease], *, clustered: bool) -> list[Call]:
        most = 1 if clustered else RENEWED_AT_ONCE  # a call is limited to keys of one slot
        calls = []
        for _, alike in groupby(leases, key=_terms):
            for chunk in chunked(list(alike), most):
                keys = [key for one in chunk for k in (self._layout.keys_of(one.queue),) for key in (k.lock, k.delayed)]
                calls.append(Call(self._script, keys, (to_bytes(chunk[0].holder), chunk[0].ttl_ms)))
        return calls


def _terms(lease: Lease) -> tuple[str, int]:
    return lease.holder, lease.ttl_ms
