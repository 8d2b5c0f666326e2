"""Registers `postgres://`. Imports no driver; psycopg is loaded when the backend is chosen."""

from collections.abc import Iterable

from promoter_core.spi import BackendSpec, hookimpl


@hookimpl
def promoter_register_backends() -> Iterable[BackendSpec]:
    yield BackendSpec(
        name="postgres",
        schemes=("postgres", "postgresql"),
        summary="a PostgreSQL server, durable, for any number of processes",
        target="promoter_postgres.backend:open_url",
        requires=("psycopg",),
        install="promoter-postgres[driver]",
    )
