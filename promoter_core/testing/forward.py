"""What a wrapper around a backend has to offer for the wrapped one to stay what it is."""

from __future__ import annotations

import inspect
from typing import Any

from promoter_core.spi import DeadLetterSupport, DiagnosticsSupport, FleetSupport

OPTIONAL: tuple[type, ...] = (FleetSupport, DeadLetterSupport, DiagnosticsSupport)


def optional_methods(backend: Any) -> dict[str, Any]:
    """The methods beyond `Backend` that this backend offers, by name.

    A wrapper sets them as attributes of its own: from Python 3.12 on `isinstance` with a Protocol looks past
    `__getattr__`.
    """
    names = {name for protocol in OPTIONAL for name in vars(protocol) if not name.startswith("_")}
    return {name: method for name in sorted(names) if (method := getattr(backend, name, None)) is not None}


def is_coroutine_method(name: str) -> bool:
    """Whether one of the optional contracts has an `async def` of this name."""
    return any(inspect.iscoroutinefunction(vars(protocol).get(name)) for protocol in OPTIONAL)
