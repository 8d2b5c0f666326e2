"""The pages of plugins that `promoter run --page` and `promoter ui` serve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from promoter_core import Backend, ConfigError, PluginError, PromoterError, Registered
from promoter_core.cli import session
from promoter_core.spi import PageContext, PageSpec, sink_options
from promoter_core.web import parse_address


def made(wanted: Sequence[str], backend: Backend, queues: Sequence[str], address: str) -> dict[str, Any]:
    """Return ASGI applications by name. Each of `wanted` is `name:key=value,…`. Raises ConfigError or PluginError."""
    pages: dict[str, Any] = {}
    for text in wanted:
        name, _, rest = text.partition(":")
        if name in pages:
            raise ConfigError(f"the page {name!r} is given twice")
        spec = _named(name).spec
        assert isinstance(spec, PageSpec)
        options = sink_options.split("page", name, rest, spec.options)
        pages[name] = page(name, backend, queues, parse_address(address)[0], options)
    return pages


def page(name: str, backend: Backend, queues: Sequence[str], host: str, options: Mapping[str, str]) -> Any:
    """Return one application. Raises ConfigError or PluginError."""
    registered = _named(name)
    target = session.registry().load(registered)
    try:
        return target(PageContext(backend=backend, queues=queues, host=host), **options)
    except PromoterError:
        raise
    except Exception as exc:
        raise PluginError(f"page {name!r} of {registered.source} cannot be made: {type(exc).__name__}") from exc


async def begin(pages: Iterable[Any]) -> None:
    """Await `aopen()` of the applications that have it, after the backend has opened."""
    for app in pages:
        if (aopen := getattr(app, "aopen", None)) is not None:
            await aopen()


def _named(name: str) -> Registered:
    known = {r.spec.name: r for r in session.registry().all() if r.kind == "page"}
    if name not in known:
        raise ConfigError(f"unknown page {name!r}. Choices: {', '.join(known) or 'none are installed'}")
    return known[name]
