"""`Tries`: limits the wrong tokens from one address. Its size is constant."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from array import array
from time import monotonic

AT_ONCE = 10  # wrong tokens from one address
EVERY_S = 6.0  # time until one more try is allowed
SLOTS = 1_024  # counters; addresses with the same hash share one


class Tries:
    """The counters of one process. A right token costs no try."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)  # so that an attacker cannot choose a counter
        self._spent_until_s = array("d", [0.0]) * SLOTS  # when all tries are available again

    def wait_s(self, address: str) -> float:
        """Return the time until a token from this address is checked again; 0 for now."""
        ahead_s = self._spent_until_s[self._slot(address)] - monotonic()
        return max(ahead_s - (AT_ONCE - 1) * EVERY_S, 0.0)

    def was_wrong(self, address: str) -> None:
        slot = self._slot(address)
        self._spent_until_s[slot] = max(self._spent_until_s[slot], monotonic()) + EVERY_S

    def _slot(self, address: str) -> int:
        """Return the counter of an address. An IPv6 network shares one: a host in it has any number of addresses."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            known = address
        else:
            known = str(ipaddress.ip_network((int(ip) >> 64 << 64, 64))) if ip.version == 6 else address
        digest = hashlib.blake2b(known.encode("utf-8", "replace"), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest) % SLOTS
