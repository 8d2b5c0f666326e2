"""The hooks that a plugin implements. They only register: ordinary typed methods do the work.

A plugin is a module (or object) named by an entry point of the group `promoter`:

    [project.entry-points.promoter]
    sqlite = "promoter_sqlite.plugin"

It imports `hookimpl` and the spec classes, but no driver: listing plugins must work, and be fast, where the driver is
not installed. Hooks collect the specs of all plugins. If two specs have the same name, neither can be used, unless one
is Promoter's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pluggy

PROJECT = "promoter"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)  # decorator for a plugin's hooks


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A backend, selected by the scheme of a URL.

    `target` is `"package.module:attribute"`, a callable that takes a `BackendUrl` and returns a `Backend`, not yet
    opened. It is imported when the backend is selected. `requires` names the modules that `target` needs; `install` is
    the argument for `pip install` when one is missing.
    """

    name: str
    schemes: tuple[str, ...]
    summary: str
    target: str
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """An event sink or a metrics sink, selected by name.

    `target` is `"package.module:attribute"`, a callable that takes its options as keyword arguments of type str and
    returns the sink. It raises ConfigError for an invalid value.
    """

    name: str
    summary: str
    target: str
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class SerializerSpec:
    """A serializer for the data of jobs, selected by name.

    `target` is `"package.module:attribute"`, a callable without arguments that returns a `Serializer`. `types` lists
    types that it accepts and that plain msgpack or JSON may not, for error messages of other serializers: classes such
    as `"datetime.datetime"`, including their subclasses, `"dataclass"`, `"attrs"`, and `"non-text key"` for dict keys
    that are not text.
    """

    name: str
    summary: str
    target: str
    types: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class LayoutSpec:
    """A layout of the keys of Redis-protocol stores, selected by name.

    `target` is `"package.module:attribute"`, a callable that takes its options as keyword arguments of type str and
    returns a `Layout`. It raises ConfigError for an invalid value.
    """

    name: str
    summary: str
    target: str
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """An additional command for the `promoter` command line.

    `target` is `"package.module:function"`, a typer command. Its module is imported whenever the command line
    starts, so it must not import a driver at module level.
    """

    name: str
    summary: str
    target: str
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class PageSpec:
    """Pages of `promoter run --http`, selected by name and served at `/name/`.

    `target` is `"package.module:attribute"`, a callable that takes a `PageContext`, and its options as keyword
    arguments of type str. It returns an ASGI application. If the application has `aopen()` and `aclose()`, they are
    awaited after the backend opens and at the end. The target raises ConfigError for an invalid value.
    """

    name: str
    summary: str
    target: str
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    install: str = ""


@hookspec
def promoter_register_backends() -> Iterable[BackendSpec]:
    """Backends that `connect(url)` can open.

    @hookimpl
    def promoter_register_backends():
        yield BackendSpec(
            name="sqlite",
            schemes=("sqlite",),
            summary="one durable file",
            target="promoter_sqlite.backend:open_url",
        )
    """
    return ()


@hookspec
def promoter_register_event_sinks() -> Iterable[SinkSpec]:
    """Event sinks that `Promoter(events=["name"])` and `promoter run --event-sink name:key=value` can use.

    @hookimpl
    def promoter_register_event_sinks():
        yield SinkSpec(
            name="print",
            summary="a line on stdout for each job",
            target="my_sinks.console:PrintSink",
            options=("prefix",),
        )
    """
    return ()


@hookspec
def promoter_register_metrics_sinks() -> Iterable[SinkSpec]:
    """Metrics sinks that `Promoter(metrics=["name"])` and `promoter run --metrics name:key=value` can use.

    @hookimpl
    def promoter_register_metrics_sinks():
        yield SinkSpec(name="counts", summary="counts in memory", target="my_sinks.counts:CountingSink")
    """
    return ()


@hookspec
def promoter_register_serializers() -> Iterable[SerializerSpec]:
    """Serializers that `DelayedQueue(backend, queue, serializer="name")` and `Envelope.data("name")` can use.

    @hookimpl
    def promoter_register_serializers():
        yield SerializerSpec(
            name="upper",
            summary="text, shouted",
            target="my_serializers.upper:UpperSerializer",
        )
    """
    return ()


@hookspec
def promoter_register_layouts() -> Iterable[LayoutSpec]:
    """Layouts that `connect(url, layout="name:key=value")` and `promoter run --layout name:key=value` can use.

    @hookimpl
    def promoter_register_layouts():
        yield LayoutSpec(
            name="mail",
            summary="the list that our mailer reads",
            target="my_layouts.mail:mail_layout",
            options=("key",),
        )
    """
    return ()


@hookspec
def promoter_register_commands() -> Iterable[CommandSpec]:
    """Further commands of the `promoter` command line.

    @hookimpl
    def promoter_register_commands():
        yield CommandSpec(name="vacuum", summary="compact the file", target="promoter_sqlite.commands:vacuum")
    """
    return ()


@hookspec
def promoter_register_pages() -> Iterable[PageSpec]:
    """Pages that `promoter run --http HOST:PORT --page name:key=value` can serve.

    @hookimpl
    def promoter_register_pages():
        yield PageSpec(name="wall", summary="one number, large", target="my_pages.wall:page", options=("color",))
    """
    return ()
