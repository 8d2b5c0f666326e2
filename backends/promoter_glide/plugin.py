"""Registers the Valkey GLIDE backend."""

from collections.abc import Iterable

from promoter_core.spi import BackendSpec, hookimpl


@hookimpl
def promoter_register_backends() -> Iterable[BackendSpec]:
    yield BackendSpec(
        name="glide",
        schemes=("glide", "glides", "glide+cluster"),
        summary="a Valkey or Redis server or cluster, by Valkey GLIDE",
        target="promoter_glide.connect:open_glide",
        requires=("glide",),
        install="promoter-core[glide]",
    )
