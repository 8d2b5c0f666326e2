"""Loads plugins, detects conflicts, opens backends by URL and makes sinks by name. The only user of pluggy."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TypeVar

import pluggy

from promoter_core import hookspecs
from promoter_core.contracts import Backend, EventSink, MetricsSink
from promoter_core.errors import ConfigError, PluginError
from promoter_core.hookspecs import BackendSpec, CommandSpec, SinkSpec
from promoter_core.urls import Credentials, parse_url

log = logging.getLogger("promoter.registry")

Spec = BackendSpec | SinkSpec | CommandSpec
S = TypeVar("S", BackendSpec, SinkSpec, CommandSpec)

KINDS: dict[str, tuple[str, type[Spec]]] = {
    "backend": ("promoter_register_backends", BackendSpec),
    "event sink": ("promoter_register_event_sinks", SinkSpec),
    "metrics sink": ("promoter_register_metrics_sinks", SinkSpec),
    "command": ("promoter_register_commands", CommandSpec),
}


@dataclass(frozen=True, slots=True)
class Registered:
    """One spec and where it comes from."""

    kind: str
    spec: Spec
    source: str  # "promoter-core 1.0.0" for an entry point, "plugins=[…]" otherwise

    @property
    def missing(self) -> tuple[str, ...]:
        """Required modules that are not installed."""
        return tuple(m for m in self.spec.requires if importlib.util.find_spec(m) is None)


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be loaded."""

    name: str
    source: str
    error: Exception


class Registry:
    """What is installed. Loads its plugins once, when first asked; make your own in tests with `plugins=[…]`."""

    def __init__(self, plugins: Iterable[object] = (), *, entry_points: bool = True) -> None:
        self._given = list(plugins)
        self._use_entry_points = entry_points
        self._found: dict[tuple[str, str], Registered] | None = None
        self._schemes: dict[str, Registered] = {}
        self._broken: list[Broken] = []

    def all(self) -> Sequence[Registered]:
        """Every spec, by kind and name. Raises PluginError on a conflict or a misspelt hook."""
        return [found for _, found in sorted(self._load().items())]

    def broken(self) -> Sequence[Broken]:
        self._load()
        return self._broken

    def backend(self, url: str, *, credentials: Credentials | None = None) -> Backend:
        """The backend for `url`, not yet opened. Raises ConfigError (bad URL) or PluginError (cannot be had).

        `credentials` is asked for user and password whenever a connection is made, instead of the URL.
        """
        parsed = replace(parse_url(url), credentials=credentials)
        if credentials is not None and (parsed.username or parsed.password):
            raise ConfigError(f"{parsed}: give either credentials= or a user and password in the URL, not both")
        self._load()
        registered = self._schemes.get(parsed.scheme)
        if registered is None:
            raise self._unknown("URL scheme", parsed.scheme, sorted(self._schemes))
        backend: Backend = self._target(registered)(parsed)
        return backend

    @asynccontextmanager
    async def connect(self, url: str, *, credentials: Credentials | None = None) -> AsyncIterator[Backend]:
        """The backend for `url`, open for the length of an `async with`. Raises as `backend` and `Backend.open`."""
        backend = self.backend(url, credentials=credentials)
        try:
            await backend.open()
            yield backend
        finally:
            await backend.close()

    def event_sink(self, name: str) -> EventSink:
        """A sink by `"name"` or `"name:key=value,key=value"`. Raises ConfigError or PluginError."""
        sink: EventSink = self._sink("event sink", name)
        return sink

    def metrics_sink(self, name: str) -> MetricsSink:
        """As `event_sink`, for metrics."""
        sink: MetricsSink = self._sink("metrics sink", name)
        return sink

    def load(self, registered: Registered) -> Any:
        """The object that a spec's `target` names. Raises PluginError: what is missing and how to get it."""
        return self._target(registered)

    def _sink(self, kind: str, text: str) -> Any:
        name, _, rest = text.partition(":")
        registered = self._load().get((kind, name))
        if registered is None:
            raise self._unknown(kind, name, sorted(n for k, n in self._load() if k == kind))
        spec = registered.spec
        assert isinstance(spec, SinkSpec)
        options: dict[str, str] = {}
        for pair in filter(None, rest.split(",")):
            key, equals, value = pair.partition("=")
            if not equals or key not in spec.options:
                choices = ", ".join(spec.options) or "none"
                raise ConfigError(f"{kind} {name!r}: no option {key!r} as key=value; options are: {choices}")
            options[key] = value
        return self._target(registered)(**options)

    def _target(self, registered: Registered) -> Any:
        spec, what = registered.spec, f"{registered.kind} {registered.spec.name!r}"
        if registered.missing:
            modules = " and ".join(registered.missing)
            raise PluginError(f"{what} needs the module {modules}, which is not installed: {_install(spec)}")
        module, _, attribute = spec.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as exc:
            raise PluginError(f"{what} of {registered.source} cannot be loaded from {spec.target!r}: {exc}") from exc

    def _unknown(self, kind: str, name: str, choices: list[str]) -> ConfigError | PluginError:
        broken = next((b for b in self._broken if b.name == name), None)
        if broken is not None:
            error = PluginError(f"plugin {name!r} of {broken.source} is broken: {broken.error!r}")
            error.__cause__ = broken.error
            return error
        near = difflib.get_close_matches(name, choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return ConfigError(f"unknown {kind} {name!r}{hint} Choices: {', '.join(choices) or 'none are installed'}")

    def _load(self) -> dict[tuple[str, str], Registered]:
        if self._found is not None:
            return self._found
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        self._found, self._broken, self._schemes = {}, [], {}
        try:
            for i, plugin in enumerate(self._given):
                name = getattr(plugin, "__name__", None) or f"{type(plugin).__name__}#{i}"
                self._register(manager, plugin, name, "plugins=[…]")
            if self._use_entry_points:
                self._load_entry_points(manager)
        except BaseException:
            self._found = None  # a second look must not see half of it
            raise
        return self._found

    def _load_entry_points(self, manager: pluggy.PluginManager) -> None:
        seen: dict[str, str] = {}
        for entry in sorted(metadata.entry_points(group=hookspecs.PROJECT), key=lambda e: e.name):
            source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            if entry.name in seen:
                raise PluginError(f"two plugins are named {entry.name!r}: {seen[entry.name]} and {source}; remove one")
            seen[entry.name] = source
            try:
                plugin = entry.load()
            except Exception as exc:
                self._is_broken(entry.name, source, exc)
                continue
            self._register(manager, plugin, entry.name, source)

    def _register(self, manager: pluggy.PluginManager, plugin: object, name: str, source: str) -> None:
        try:
            manager.register(plugin, name)
            manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as exc:
            raise PluginError(_misspelt(manager, plugin, name, source, exc)) from exc
        for kind, (hook, cls) in KINDS.items():
            for impl in getattr(manager.hook, hook).get_hookimpls():
                if impl.plugin is not plugin:
                    continue
                try:
                    specs = list(impl.function() or ())
                    if wrong := next((s for s in specs if not isinstance(s, cls)), None):
                        raise TypeError(f"{hook} gave {wrong!r}, expected {cls.__name__}")
                except Exception as exc:
                    self._is_broken(name, source, exc)
                    continue
                for spec in specs:
                    self._add(Registered(kind, spec, source))

    def _add(self, new: Registered) -> None:
        assert self._found is not None
        old = self._found.setdefault((new.kind, new.spec.name), new)
        if old is not new:
            raise PluginError(
                f"two {new.kind}s are named {new.spec.name!r}: one of {old.source}, one of {new.source}; remove one"
            )
        for scheme in new.spec.schemes if isinstance(new.spec, BackendSpec) else ():
            old = self._schemes.setdefault(scheme, new)
            if old is not new:
                raise PluginError(
                    f"two backends claim the URL scheme {scheme!r}: {old.spec.name!r} of {old.source} and "
                    f"{new.spec.name!r} of {new.source}; remove one"
                )

    def _is_broken(self, name: str, source: str, error: Exception) -> None:
        self._broken.append(Broken(name, source, error))
        log.warning("plugin %r of %s is broken and left out: %r", name, source, error)


def _misspelt(manager: pluggy.PluginManager, plugin: object, name: str, source: str, exc: Exception) -> str:
    known = [hook for hook, _ in KINDS.values()]
    for attribute in dir(plugin):
        if attribute not in known and manager.parse_hookimpl_opts(plugin, attribute) is not None:
            near = difflib.get_close_matches(attribute, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; hooks are: {', '.join(known)}"
            return f"plugin {name!r} of {source} implements an unknown hook {attribute!r}{hint}"
    return f"plugin {name!r} of {source} cannot be registered: {' '.join(str(exc).split())}"


def _install(spec: Spec) -> str:
    return f"pip install '{spec.install}'" if spec.install else "install it and try again"
