"""The optional protocols that a wrapper around a backend forwards, so that it passes the same `isinstance` checks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from promoter_core.spi import (
    DeadLetterSupport,
    DiagnosticsSupport,
    DiscoverySupport,
    FleetSupport,
    LayoutSupport,
    ManagementSupport,
    SeparateCleanup,
    SeparateEmit,
)

OPTIONAL: tuple[type, ...] = (
    SeparateCleanup,
    SeparateEmit,
    DiscoverySupport,
    FleetSupport,
    ManagementSupport,
    DeadLetterSupport,
    DiagnosticsSupport,
    LayoutSupport,
)


_by_class: WeakKeyDictionary[type, dict[type, bool]] = WeakKeyDictionary()


@cache
def members_of(protocol: type) -> Mapping[str, Any]:
    """Return the members of a protocol by name, each with its method or property; None for an annotation.

    Includes the members of the protocols that it extends.
    """
    declared: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            declared |= dict.fromkeys(inspect.get_annotations(base)) | vars(base)
    return MappingProxyType({name: declared[name] for name in declared if not name.startswith("_")})


def offers(backend: Any, protocol: type) -> bool:
    """Return `isinstance(backend, protocol)`. It is slow: the answer is cached where the class alone decides it."""
    own: dict[str, Any] = getattr(backend, "__dict__", {})
    if hasattr(type(backend), "__getattr__") or not own.keys().isdisjoint(members_of(protocol)):
        return isinstance(backend, protocol)
    known = _by_class.setdefault(type(backend), {})
    if protocol not in known:
        known[protocol] = isinstance(backend, protocol)
    return known[protocol]


def offered(backend: Any) -> dict[str, Any]:
    """Return the members of each optional protocol that the backend implements, by name.

    A wrapper sets them as attributes. Python 3.12 and newer check only those: `isinstance` with a protocol does not use
    `__getattr__`.
    """
    return {
        name: getattr(backend, name)
        for protocol in OPTIONAL
        if offers(backend, protocol)
        for name in members_of(protocol)
    }
