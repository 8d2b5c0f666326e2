"""A connection of `promoter_core.sync` to any backend that a test makes."""

from collections.abc import Callable

from promoter_core import Registry
from promoter_core.spi import BackendSpec, hookimpl


class Plugin:
    """Gives `made://`, which is whatever `make` returns."""

    make: Callable[[], object]

    def __init__(self, make):
        Plugin.make = staticmethod(make)

    @hookimpl
    def promoter_register_backends(self):
        target = f"{__name__}:open_made"
        yield BackendSpec(name="made", schemes=("made",), summary="of a test", target=target)


def open_made(url):
    return Plugin.make()


def made(make):
    return Registry([Plugin(make)], entry_points=False)
