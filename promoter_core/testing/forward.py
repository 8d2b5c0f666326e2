"""Which optional protocols a wrapper around a backend forwards, so that it is what the wrapped backend is."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

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


def members_of(protocol: type) -> dict[str, Any]:
    """The members of a protocol: names, with the method or property that declares each. None for a bare annotation.

    Those of the protocols that it extends are among them.
    """
    declared: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            declared |= dict.fromkeys(inspect.get_annotations(base)) | vars(base)
    return {name: declared[name] for name in declared if not name.startswith("_")}


def offered(backend: Any) -> dict[str, Any]:
    """The members of each optional protocol that the backend fulfils, by name.

    A wrapper sets them as attributes. Python 3.12 and newer look for those alone: `isinstance` with a protocol does
    not ask `__getattr__`.
    """
    return {
        name: getattr(backend, name)
        for protocol in OPTIONAL
        if isinstance(backend, protocol)
        for name in members_of(protocol)
    }
