"""Loads plugins, opens backends by URL, and makes sinks and serializers by name. The only user of pluggy.

A plugin that is broken, or in conflict with another, costs one line in the log and only itself: an error is raised
when somebody asks for what it should have given. Where a third party's plugin takes a name of Promoter's own, ours
stays.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any

import pluggy

from promoter_core.spi import hooks
from promoter_core.spi.backend import Backend
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import ConfigError, PluginError, PromoterError
from promoter_core.spi.hooks import BackendSpec, CommandSpec, LayoutSpec, PageSpec, SerializerSpec, SinkSpec
from promoter_core.spi.layouts import Layout
from promoter_core.spi.optional.layouts import LayoutSupport
from promoter_core.spi.serializers import Serializer
from promoter_core.spi.sink_options import split
from promoter_core.spi.sinks import EventSink, MetricsSink
from promoter_core.spi.spec_checks import is_installed, nearest, spec_problem
from promoter_core.spi.urls import Credentials, parse_url

log = logging.getLogger("promoter.registry")

Spec = BackendSpec | SinkSpec | SerializerSpec | LayoutSpec | CommandSpec | PageSpec

SCHEME = "URL scheme"
OURS = "promoter-core"  # the distribution whose plugins are first-party
FOREIGN = (Exception, SystemExit)  # third-party code may raise these; a plugin's sys.exit must not end the process

KINDS: dict[str, tuple[str, type[Spec]]] = {
    "backend": ("promoter_register_backends", BackendSpec),
    "event sink": ("promoter_register_event_sinks", SinkSpec),
    "metrics sink": ("promoter_register_metrics_sinks", SinkSpec),
    "serializer": ("promoter_register_serializers", SerializerSpec),
    "layout": ("promoter_register_layouts", LayoutSpec),
    "command": ("promoter_register_commands", CommandSpec),
    "page": ("promoter_register_pages", PageSpec),
}
MEMBERS = {  # required attributes of the object that a target creates
    "backend": tuple(name for name in vars(Backend) if not name.startswith("_")),
    "event sink": ("emit", "close"),
    "metrics sink": ("on_tick", "on_lock", "on_error"),
    "serializer": ("dumps", "loads"),
    "layout": ("keys_of", "move"),
}


@dataclass(frozen=True, slots=True)
class Registered:
    """A spec and its source."""

    kind: str
    spec: Spec
    source: str  # "promoter-core 1.0.0" for an entry point, "plugins=[…]" otherwise
    plugin: str = ""  # the name of the entry point

    @property
    def missing(self) -> tuple[str, ...]:
        """Required modules that are not installed."""
        return tuple(module for module in self.spec.requires if not is_installed(module))


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that could not be loaded, or a part of it that conflicts with another plugin."""

    name: str
    source: str
    error: BaseException

    @property
    def why(self) -> str:
        """The reason, in one line."""
        return _in_words(self.error)


class Registry:
    """The installed plugins. Loads them once, on first use; in tests, create one with `plugins=[…]`."""

    def __init__(self, plugins: Iterable[object] = (), *, entry_points: bool = True) -> None:
        self._given = list(plugins)
        self._use_entry_points = entry_points
        self._taken: dict[tuple[str, str], Registered] | None = None  # by kind and name, and by SCHEME and scheme
        self._contested: dict[tuple[str, str], PluginError] = {}  # names claimed by several plugins, and why
        self._broken: list[BrokenPlugin] = []
        self._loading = threading.local()

    def all(self) -> Sequence[Registered]:
        """Return every usable spec, by kind and name."""
        return [taken for (kind, _), taken in sorted(self._load().items()) if kind in KINDS]

    def broken(self) -> Sequence[BrokenPlugin]:
        """Return plugins that could not be loaded, and conflicts between plugins."""
        self._load()
        return self._broken

    def backend(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        clock: Clock | None = None,
        layout: str | Layout | None = None,
    ) -> Backend:
        """Return the backend for `url`, not yet opened. Raises ConfigError (bad URL) or PluginError (not available).

        `credentials` is called for user and password on every new connection, instead of using the URL. `clock` is a
        test's clock, for a store inside this process. `layout` is a name with options, or an object.
        """
        wanted = self.layout(layout) if isinstance(layout, str) else layout
        parsed = replace(parse_url(url), credentials=credentials, clock=clock, layout=wanted)
        if credentials is not None and (parsed.username or parsed.password):
            raise ConfigError(f"{parsed}: give either credentials= or a user and password in the URL, not both")
        registered = self._named(SCHEME, parsed.scheme)
        backend: Backend = self._make(registered, parsed, secrets=[parsed.password or "", *parsed.options.values()])
        if wanted is not None and not (isinstance(backend, LayoutSupport) and backend.layout == wanted):
            raise ConfigError(
                f"{parsed}: {registered.spec.name} has no layouts; they need a store that runs Lua scripts"
            )
        return backend

    @asynccontextmanager
    async def connect(self, url: str, **arguments: Any) -> AsyncIterator[Backend]:
        """Open the backend for `url` for the length of an `async with`. Takes and raises what `backend` does."""
        backend = self.backend(url, **arguments)
        try:
            await backend.open()
            yield backend
        finally:
            await backend.close()

    def event_sink(self, name: str) -> EventSink:
        """Create a sink from `"name"` or `"name:key=value,key=value"`. Raises ConfigError or PluginError."""
        sink: EventSink = self._chosen("event sink", name)
        return sink

    def metrics_sink(self, name: str) -> MetricsSink:
        """Create a metrics sink, like `event_sink`."""
        sink: MetricsSink = self._chosen("metrics sink", name)
        return sink

    def serializer(self, name: str) -> Serializer:
        """Create a serializer by name. Raises ConfigError or PluginError."""
        serializer: Serializer = self._make(self._named("serializer", name), secrets=())
        return serializer

    def layout(self, name: str) -> Layout:
        """Create a layout from `"name"` or `"name:key=value,key=value"`. Raises ConfigError or PluginError."""
        layout: Layout = self._chosen("layout", name)
        return layout

    def load(self, registered: Registered) -> Any:
        """Import the object that a spec's `target` names. Raises PluginError with what is missing and how to get it."""
        return self._target(registered)

    def leave_out(self, registered: Registered, error: PluginError) -> None:
        """Stop offering a spec that turned out to be unusable, and list it as broken."""
        self._load().pop((registered.kind, registered.spec.name), None)
        self._is_broken(registered.plugin, registered.source, error)

    def _chosen(self, kind: str, text: str) -> Any:
        """Return the layout for `name:key=value,…`."""
        name, _, rest = text.partition(":")
        registered = self._named(kind, name)
        assert isinstance(registered.spec, SinkSpec | LayoutSpec)
        options = split(kind, name, rest, registered.spec.options)
        return self._make(registered, secrets=list(options.values()), **options)

    def _make(self, registered: Registered, /, *args: Any, secrets: Sequence[str], **options: str) -> Any:
        """Call the target. `secrets` are removed from the text of its exception."""
        factory, where = self._target(registered), f"{_what(registered)} ({registered.spec.target})"
        try:
            made = factory(*args, **options)
        except PromoterError:
            raise
        except FOREIGN as exc:
            words = _in_words(exc)
            for secret in secrets:
                words = words.replace(secret, "***") if len(secret) > 3 else words
            raise PluginError(f"{where} cannot be made: {words}") from exc
        if inspect.iscoroutine(made):
            made.close()
        lacking = [name for name in MEMBERS[registered.kind] if not _has(made, name)]
        if lacking:
            kind, lacks = type(made).__name__, ", ".join(lacking[:4]) + (" …" if len(lacking) > 4 else "")
            raise PluginError(f"{where} is no {registered.kind}: its target returns {kind}, which lacks {lacks}")
        return made

    def _target(self, registered: Registered) -> Any:
        spec = registered.spec
        if registered.missing:
            modules, what = " and ".join(registered.missing), f"{registered.kind} {spec.name!r}"
            needs = f"module {modules}, which is" if len(registered.missing) == 1 else f"modules {modules}, which are"
            raise PluginError(f"{what} needs the {needs} not installed: {_install(spec)}")
        module, _, attribute = spec.target.partition(":")
        try:
            target = getattr(importlib.import_module(module), attribute)
            if not callable(target):
                raise TypeError(f"{attribute} is {type(target).__name__}, expected a callable")
        except FOREIGN as exc:
            what, words = _what(registered), _in_words(exc)
            raise PluginError(f"{what} cannot be loaded from {spec.target!r}: {words}") from exc
        return target

    def _named(self, kind: str, name: str) -> Registered:
        """Raises ConfigError for an unknown name, PluginError when its plugin is broken or in conflict."""
        taken = self._load()
        if (registered := taken.get((kind, name))) is not None:
            return registered
        if (conflict := self._contested.get((kind, name))) is not None:
            raise PluginError(str(conflict))
        if (broken := next((b for b in self._broken if b.name == name), None)) is not None:
            raise PluginError(f"plugin {name!r} of {broken.source} is broken: {broken.why}") from broken.error
        choices = sorted(n for k, n in taken if k == kind)
        near = nearest(name, choices)
        hint = f"; did you mean {near!r}?" if near else "."
        left_out = ", ".join(sorted({b.name for b in self._broken}))
        raise ConfigError(
            f"unknown {kind} {name!r}{hint} Choices: {', '.join(choices) or 'none are installed'}"
            + (f"; broken plugins, left out: {left_out}" if left_out else "")
        )

    def _load(self) -> dict[tuple[str, str], Registered]:
        """Load the plugins without a lock: each thread loads them itself, and none sees an incomplete result."""
        if self._taken is not None:
            return self._taken
        half: dict[tuple[str, str], Registered] | None = getattr(self._loading, "half", None)
        if half is not None:
            return half
        found = Registry(self._given, entry_points=self._use_entry_points)
        self._loading.half = found._taken = {}
        try:
            for i, plugin in enumerate(self._given):
                name = getattr(plugin, "__name__", None) or f"{type(plugin).__name__}#{i}"
                found._register(plugin, name, "plugins=[…]")
            if self._use_entry_points:
                found._load_entry_points()
        finally:
            self._loading.half = None
        if self._taken is None:
            self._broken, self._contested, self._taken = found._broken, found._contested, found._taken
        return self._taken

    def _load_entry_points(self) -> None:
        source_of = cache(_source)
        found = metadata.entry_points(group=hooks.PROJECT)
        entries = [(source_of(entry.dist) if entry.dist else entry.value, entry) for entry in found]
        for source, entry in sorted(entries, key=lambda e: (e[0].split()[0] != OURS, e[1].name, e[0])):
            try:
                plugin = entry.load()
            except FOREIGN as exc:
                self._is_broken(entry.name, source, exc)
                continue
            self._register(plugin, entry.name, source)

    def _register(self, plugin: object, name: str, source: str) -> None:
        manager = pluggy.PluginManager(hooks.PROJECT)  # one for each plugin, so that none can break another
        manager.add_hookspecs(hooks)
        try:
            manager.register(plugin, name)
            manager.check_pending()
        except FOREIGN as exc:
            self._is_broken(name, source, _misspelt(manager, plugin) or exc)
            return
        for kind, (hook, cls) in KINDS.items():
            for impl in getattr(manager.hook, hook).get_hookimpls():
                try:
                    specs = list(impl.function() or ())
                    if problem := next((p for p in (spec_problem(s, hook, cls) for s in specs) if p), None):
                        raise PluginError(problem)
                except FOREIGN as exc:
                    self._is_broken(name, source, exc)
                    continue
                for spec in specs:
                    self._add(Registered(kind, spec, source, name))

    def _add(self, new: Registered) -> None:
        """Register a spec by its names. A name that several plugins claim goes to none, except to Promoter's own."""
        taken, names = self._load(), _names(new)
        rivals = [taken[name] for name in names if name in taken]
        ours = next((rival for rival in rivals if rival.source.startswith(f"{OURS} ")), None)
        error = next((self._contested[name] for name in names if name in self._contested), None)
        if rivals:
            error = _conflict(ours or rivals[0], new, "that of Promoter is used" if ours else "remove one")
        if error is None:
            taken.update(dict.fromkeys(names, new))
            return
        for rival in rivals if ours is None else ():
            for name in _names(rival):
                taken.pop(name, None)
                self._contested[name] = error
        for name in names:
            if name not in taken:
                self._contested.setdefault(name, error)
        self._is_broken(new.plugin, new.source, error)

    def _is_broken(self, name: str, source: str, error: BaseException) -> None:
        broken = BrokenPlugin(name, source, error)
        self._broken.append(broken)
        log.warning("plugin %r of %s is broken and skipped: %s", name, source, broken.why)


def connect(
    url: str,
    *,
    credentials: Credentials | None = None,
    clock: Clock | None = None,
    layout: str | Layout | None = None,
    registry: Registry | None = None,
) -> AbstractAsyncContextManager[Backend]:
    """Open the backend for a URL: `async with connect("redis://localhost:6379") as backend:`.

    `credentials` is an async callable that returns `(user or None, password)`. It is called for every new connection,
    for passwords that rotate. `clock` is for tests: it drives a store inside this process, such as `memory://`.
    `layout` selects where due jobs go when their consumers are not ChasquiMQ's: `"faststream"`, or with options
    `"stream:key=emails,field=data"`.

    Raises ConfigError for an invalid URL, PluginError when no installed plugin can open it, TransientError when the
    store cannot be reached, PermanentError when it refuses us.
    """
    return (registry or installed()).connect(url, credentials=credentials, clock=clock, layout=layout)


@cache
def installed() -> Registry:
    """Return the registry of this process, which looks for installed plugins only once."""
    return Registry()


def _source(dist: metadata.Distribution) -> str:
    about = dist.metadata  # parsed at each access, with the whole README
    return f"{about['Name']} {about['Version']}"


def _names(registered: Registered) -> list[tuple[str, str]]:
    spec = registered.spec
    schemes = spec.schemes if isinstance(spec, BackendSpec) else ()
    return [(registered.kind, spec.name), *((SCHEME, scheme) for scheme in schemes)]


def _conflict(old: Registered, new: Registered, then: str) -> PluginError:
    if old.spec.name == new.spec.name:
        what = f"two {new.kind}s are named {new.spec.name!r}: one of {old.source}, one of {new.source}"
    else:
        both = [name for kind, name in _names(new) if kind == SCHEME and (kind, name) in _names(old)]
        what = f"two backends claim the URL scheme {both[0]!r}: {_whose(old)} and {_whose(new)}"
    return PluginError(f"{what}; {then}")


def _whose(registered: Registered) -> str:
    return f"{registered.spec.name!r} of {registered.source}"


def _misspelt(manager: pluggy.PluginManager, plugin: object) -> PluginError | None:
    """Return an error that names a hook of the plugin which does not exist, if any."""
    known = [hook for hook, _ in KINDS.values()]
    try:
        found = [a for a in dir(plugin) if a not in known and manager.parse_hookimpl_opts(plugin, a) is not None]
    except FOREIGN:
        return None
    if not found:
        return None
    near = nearest(found[0], known)
    hint = f"; did you mean {near!r}?" if near else f"; hooks are: {', '.join(known)}"
    return PluginError(f"it implements an unknown hook {found[0]!r}{hint}")


def _what(registered: Registered) -> str:
    return f"{registered.kind} {_whose(registered)}"


def _in_words(error: BaseException) -> str:
    """Describe an error in one line, with its class unless it is one of Promoter's."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PromoterError) else f"{type(error).__name__}: {text}"


def _has(made: object, name: str) -> bool:
    try:
        return hasattr(made, name)
    except FOREIGN:  # a property that raises before `open`
        return True


def _install(spec: Spec) -> str:
    return f"pip install '{spec.install}'" if spec.install else "install it and try again"
