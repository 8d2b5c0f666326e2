"""The registry and each of its failure messages, with real entry points of fake distributions on disk."""

from __future__ import annotations

import asyncio
import logging
import threading
import types
from importlib import metadata

import pytest

from promoter_core import ConfigError, PluginError, Registry, connect, sync
from promoter_core.spi import BackendSpec, hookimpl
from tests.typed import untyped
from tests.unit.distributions import GOOD, Plugin, install


def test_first_party_plugins_come_through_entry_points():
    found = {(r.kind, r.spec.name): r.source for r in Registry().all()}
    assert {("backend", "memory"), ("backend", "redis"), ("backend", "embedded"), ("backend", "fake")} <= found.keys()
    assert all(source.startswith("promoter-core ") for source in found.values())


def test_a_third_partys_plugin_is_found_the_same_way(site):
    install(site, "toy-store", "1.2", "toy", GOOD)
    registry = Registry()
    (toy,) = [r for r in registry.all() if r.spec.name == "toy"]
    assert toy.source == "toy-store 1.2"
    assert untyped(registry.backend("toy://host/path")).path == "/path"
    sink = untyped(registry.event_sink("box:size=3,colour=blue"))
    assert (sink.size, sink.colour) == ("3", "blue")


async def test_a_process_looks_for_plugins_once_however_often_it_connects(site, monkeypatch):
    looks = []
    entry_points = metadata.entry_points

    def look(**given):
        looks.append(given)
        return entry_points(**given)

    monkeypatch.setattr(metadata, "entry_points", look)
    for _ in range(3):
        async with connect("memory://"):
            pass
        await asyncio.to_thread(lambda: sync.connect("memory://").close())
    assert looks == [{"group": "promoter"}]


def test_a_thread_that_asks_while_another_loads_the_plugins_sees_all_of_them():
    loading, go_on = threading.Event(), threading.Event()

    class Slow:
        @hookimpl
        def promoter_register_backends(self):
            if not loading.is_set():
                loading.set()
                go_on.wait(20)
            return []

    registry = Registry([Slow()])
    other = threading.Thread(target=registry.all)
    other.start()
    assert loading.wait(20)
    seen = [r.spec.name for r in registry.all()]
    go_on.set()
    other.join()
    assert "memory" in seen
    assert seen == [r.spec.name for r in registry.all()]


def test_a_plugin_that_asks_for_plugins_while_it_is_loaded_is_not_broken():
    class Asks:
        @hookimpl
        def promoter_register_backends(self):
            registry.all()
            return []

    registry = Registry([Asks()])
    assert [r for r in registry.all() if r.spec.name == "memory"]
    assert not registry.broken()


def test_a_plugin_that_fails_to_import_is_a_warning(site, caplog):
    install(site, "bad-store", "0.1", "bad", "raise RuntimeError('no such luck')")
    with caplog.at_level(logging.WARNING, "promoter.registry"):
        registry = Registry()
        assert registry.backend("memory://")
    assert "plugin 'bad' of bad-store 0.1 is broken and skipped" in caplog.text
    assert [b.name for b in registry.broken()] == ["bad"]


def test_a_broken_plugin_that_is_asked_for_is_an_error_with_its_cause(site):
    install(site, "bad-store", "0.1", "bad", "raise RuntimeError('no such luck')")
    with pytest.raises(PluginError, match="plugin 'bad' of bad-store 0.1 is broken: RuntimeError") as raised:
        Registry().backend("bad://")
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_hook_that_raises_or_gives_nonsense_breaks_its_plugin_only(site):
    install(
        site,
        "a-dist",
        "1",
        "raises",
        "from promoter_core.spi import hookimpl\n@hookimpl\ndef promoter_register_backends():\n    1/0\n",
    )
    install(
        site,
        "b-dist",
        "1",
        "odd",
        "from promoter_core.spi import hookimpl\n@hookimpl\ndef promoter_register_backends():\n    return ['x']\n",
    )
    registry = Registry()
    assert registry.backend("memory://")
    problems = {b.name: repr(b.error) for b in registry.broken()}
    assert "ZeroDivisionError" in problems["raises"]
    assert "promoter_register_backends gave 'x', expected BackendSpec" in problems["odd"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda r: r.backend("rediss2://x"),
            r"unknown URL scheme 'rediss2'; did you mean 'rediss'\? Choices: .*memory",
        ),
        (lambda r: r.backend("zzz://x"), r"unknown URL scheme 'zzz'\. Choices"),
        (lambda r: r.event_sink("loging"), r"unknown event sink 'loging'; did you mean 'logging'\?"),
        (lambda r: r.metrics_sink("nope"), r"unknown metrics sink 'nope'\. Choices: .*logging"),
    ],
)
def test_an_unknown_name_lists_the_choices_and_suggests_the_nearest(ask, message):
    with pytest.raises(ConfigError, match=message):
        ask(Registry())


@pytest.mark.parametrize("text", ["logging:colour=red", "logging:level", "logging:=x"])
def test_an_unknown_option_of_a_sink_lists_the_choices(text):
    with pytest.raises(ConfigError, match=r"event sink 'logging': no option .* options are: logger, level"):
        Registry().event_sink(text)


def test_a_missing_driver_says_how_to_get_it():
    spec = BackendSpec(
        name="glide",
        schemes=("glide",),
        summary="",
        target="x:y",
        requires=("no_such_module",),
        install="promoter-core[glide]",
    )
    registry = Registry([Plugin(spec)], entry_points=False)
    with pytest.raises(
        PluginError, match=r"backend 'glide' needs the module no_such_module.* pip install 'promoter-core\[glide\]'"
    ):
        registry.backend("glide://localhost")
    assert registry.all()[0].missing == ("no_such_module",)


def test_two_missing_modules_are_named_in_one_sentence():
    spec = BackendSpec("x", ("x",), "", "x:y", requires=("no_such_module", "nor_this"), install="promoter-core[x]")
    with pytest.raises(
        PluginError, match="needs the modules no_such_module and nor_this, which are not installed: pip"
    ):
        Registry([Plugin(spec)], entry_points=False).backend("x://")


def test_a_target_that_cannot_be_loaded_is_an_error_with_its_cause():
    registry = Registry([Plugin(BackendSpec("x", ("x",), "", "no_such_package.here:open"))], entry_points=False)
    with pytest.raises(
        PluginError, match=r"backend 'x' of plugins=\[…\] cannot be loaded from 'no_such_package"
    ) as raised:
        registry.backend("x://")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_tests_build_a_registry_of_their_own_and_nothing_is_global():
    spec = BackendSpec("x", ("x",), "", "promoter_memory.backend:open_url")
    assert [r.spec for r in Registry([Plugin(spec)], entry_points=False).all()] == [spec]
    assert Registry(entry_points=False).all() == []
    module = types.ModuleType("a_plugin_module")
    assert Registry([module], entry_points=False).all() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is not a backend URL: expected scheme"),
        ("localhost", "'localhost' is not a backend URL"),
        (None, "this is not a backend URL"),
        ("redis://localhost:port/0", "redis:// URL is malformed"),
        ("redis://localhost:99999", "redis:// URL is malformed"),
        ("redis://[::1/0", "redis:// URL is malformed"),
        ("redis://localhost/zero", "path must be the number of a database"),
        ("redis://localhost?colour=red", r"unknown option 'colour'; options are: command_timeout_ms, db"),
        ("redis://localhost?command_timeout_ms=soon", "'command_timeout_ms' must be a whole number from 1, not 'soon'"),
        ("redis://localhost?command_timeout_ms=0", "'command_timeout_ms' must be a whole number from 1, not '0'"),
        ("unix://", "expected the path of a socket"),
        ("unix:///run/redis.sock?tls=1", "a socket of this machine has no TLS; leave tls=1 out"),
        ("memory://?x=1", "unknown option 'x'; options are: none"),
        ("embedded://host", "expected embedded:// or embedded:///absolute/path"),
    ],
)
def test_a_url_that_cannot_work_is_one_clear_error(url, message):
    with pytest.raises(ConfigError, match=message):
        Registry().backend(url)
