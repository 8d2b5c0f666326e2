"""Registers `sqlite://`. Imports no driver; sqlite3 is loaded when the backend is chosen."""

from collections.abc import Iterable

from promoter_core.spi import BackendSpec, hookimpl


@hookimpl
def promoter_register_backends() -> Iterable[BackendSpec]:
    yield BackendSpec(
        name="sqlite",
        schemes=("sqlite",),
        summary="one durable file, for several processes on one machine",
        target="promoter_sqlite.backend:open_url",
    )
