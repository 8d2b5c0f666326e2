"""`PageContext`: what pages of `promoter run --http` are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from promoter_core.spi.backend import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """The argument of a `PageSpec`'s target."""

    backend: Backend  # open before the first request
    queues: Sequence[str]  # names and patterns of the queues that the process promotes
    host: str  # the host that it listens on
