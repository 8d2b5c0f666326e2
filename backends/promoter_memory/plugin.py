"""Registers `memory://`."""

from collections.abc import Iterable

from promoter_core.spi import BackendSpec, hookimpl


@hookimpl
def promoter_register_backends() -> Iterable[BackendSpec]:
    yield BackendSpec(
        name="memory",
        schemes=("memory",),
        summary="in this process, gone with it; memory://NAME is shared by name",
        target="promoter_memory.backend:open_url",
    )
