"""Short words for a promoter on the memory backend."""

from __future__ import annotations

from promoter_core import Promoter, PromoterSettings
from promoter_core.spi import StreamName


def promoter(backend, clock, *, metrics=(), events=(), **settings):
    return Promoter(
        backend,
        "q",
        PromoterSettings(**settings),
        holder_id="me",
        clock=clock,
        metrics=metrics,
        events=events,
    )


async def streamed(backend, stream=StreamName.JOBS):
    return await backend.read("q", stream, "", 10_000)
