"""Registers `promoter bench`."""

from collections.abc import Iterable

from promoter_core.spi import CommandSpec, hookimpl


@hookimpl
def promoter_register_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="bench",
        summary="Measure drain rate, lateness and cost on a backend, on temporary queues.",
        target="promoter_bench.command:bench",
    )
