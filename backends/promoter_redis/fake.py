"""`fake://`: fakeredis in this process, for tests that run the scripts without a server."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

from fakeredis import FakeServer, aioredis

from promoter_core.spi import BackendUrl, Layout
from promoter_redis.connect import make_pool
from promoter_redis.driver import RedisDriver
from promoter_resp.backend import RespBackend
from promoter_resp.in_place_backend import resp_backend
from promoter_resp.url_options import COMMAND_TIMEOUT_MS

# Renamed in fakeredis 2.30; the old name is deprecated.
_Connection: Any = getattr(aioredis, "FakeAsyncRedisConnection", None) or aioredis.FakeConnection


class FakeDriver(RedisDriver):
    """A driver without client tracking: the promoter polls. Its clock is the system's."""

    durable = False
    shared = False

    def __init__(self, server: Any, layout: Layout | None = None) -> None:
        self.server = server  # keeps the named server alive while a driver uses it
        timeout_s = COMMAND_TIMEOUT_MS / 1000
        super().__init__(
            make_pool(_Connection, timeout_s, server=server),
            where="fake://",
            timeout_s=timeout_s,
            tracks=False,
            layout=layout,
        )


_named: WeakValueDictionary[str, Any] = WeakValueDictionary()


def open_fake(url: BackendUrl) -> RespBackend:
    """Open `fake://`, private to this backend, or `fake://NAME`, a fake server that backends of this name share."""
    url.take()
    server = FakeServer() if not url.host else _named.setdefault(url.host, FakeServer())
    return resp_backend(FakeDriver(server, url.layout), layout=url.layout)
