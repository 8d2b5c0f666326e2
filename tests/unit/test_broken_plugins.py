"""A plugin that is broken, or in conflict with another, costs one line and only itself."""

from __future__ import annotations

import os
import re
import sys
import types

import pytest

from promoter_core import ConfigError, PluginError, Registered, Registry
from promoter_core.spi import BackendSpec, SinkSpec
from promoter_memory.backend import MemoryBackend
from tests import processes
from tests.typed import untyped
from tests.unit.distributions import GOOD, Plugin, install

HEAD = "from promoter_core.spi import BackendSpec, CommandSpec, SinkSpec, hookimpl\n@hookimpl\n"
BACKENDS = HEAD + "def promoter_register_backends():\n    "


def kept(registry, *broken):
    """The others go on; each of `broken`, by the name of its entry point, is a line."""
    assert registry.backend("memory://")
    assert registry.event_sink("logging")
    assert {r.spec.name for r in registry.all() if r.source.startswith("promoter-core ")} >= {"redis", "memory", "demo"}
    assert sorted(b.name for b in registry.broken()) == sorted(broken)
    assert all("\n" not in b.why for b in registry.broken())


def test_two_backends_of_one_name_are_nobodys_and_the_error_names_both_distributions_and_versions(site):
    install(site, "toy-store", "1.2", "toy", GOOD)
    install(site, "other-toys", "3.4", "toy2", GOOD.replace('("toy",)', '("toy", "toy2")'))
    registry = Registry()
    kept(registry, "toy2", "toy2")
    for _ in range(2):
        for scheme in ("toy", "toy2"):
            message = "two backends are named 'toy': one of toy-store 1.2, one of other-toys 3.4; remove one"
            with pytest.raises(PluginError, match=message):
                registry.backend(f"{scheme}://")
        with pytest.raises(PluginError, match="two event sinks are named 'box': one of toy-store 1.2, one of other"):
            registry.event_sink("box")


def test_a_third_claim_is_a_conflict_too(site):
    for dist in ("a-toys", "b-toys", "c-toys"):
        install(site, dist, "1", dist[0], GOOD)
    registry = Registry()
    kept(registry, "b", "b", "c", "c")
    with pytest.raises(PluginError, match="two backends are named 'toy'"):
        registry.backend("toy://")


def test_two_plugins_may_have_one_entry_point_name(site):
    install(site, "toy-store", "1.2", "toy", GOOD)
    install(site, "other-toys", "3.4", "toy", GOOD.replace('"toy"', '"tin"').replace('"box"', '"tub"'))
    registry = Registry()
    kept(registry)
    assert registry.backend("toy://")
    assert registry.backend("tin://")


def test_two_backends_that_claim_one_scheme_are_an_error_when_it_is_asked_for(site):
    install(site, "toy-store", "1.2", "toy", GOOD)
    install(
        site, "other-toys", "3.4", "toys", GOOD.replace('name="toy"', 'name="toys"').replace('name="box"', 'name="x"')
    )
    registry = Registry()
    kept(registry, "toys")
    with pytest.raises(
        PluginError, match="claim the URL scheme 'toy': 'toy' of toy-store 1.2 and 'toys' of other-toys 3.4"
    ):
        registry.backend("toy://")
    assert registry.event_sink("box")
    assert registry.event_sink("x")


@pytest.mark.parametrize("what", ['name="memory"', 'schemes=("memory", "toy")'])
def test_a_third_party_that_takes_a_name_of_ours_is_left_out_and_ours_stays(site, what):
    source = GOOD.replace('name="toy"' if what.startswith("name") else 'schemes=("toy",)', what)
    install(site, "a-grabber", "6.6", "aaa", source)
    registry = Registry()
    kept(registry, "aaa")
    assert type(registry.backend("memory://")) is MemoryBackend
    message = "a-grabber 6.6.*that of Promoter is used"
    assert re.search(message, registry.broken()[0].why)
    with pytest.raises(PluginError, match=message):
        registry.backend("toy://")
    assert registry.event_sink("box"), "its sink is in no conflict"


def test_a_misspelt_hook_breaks_its_plugin_only_with_a_suggestion(site):
    source = HEAD + "def promoter_register_backend():\n    return ()\n"
    install(site, "typo-store", "1", "typo", source)
    registry = Registry()
    kept(registry, "typo")
    message = "plugin 'typo' of typo-store 1 is broken: it implements an unknown hook 'promoter_register_backend'; did"
    with pytest.raises(PluginError, match=message):
        registry.backend("typo://")


def test_a_hook_with_an_unknown_argument_breaks_its_plugin_only(site):
    install(site, "args-store", "1", "args", BACKENDS.replace("()", "(config)", 1) + "return ()\n")
    registry = Registry()
    kept(registry, "args")
    with pytest.raises(PluginError, match=r"plugin 'args' of args-store 1 is broken.*config"):
        registry.backend("args://")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit('no licence\\nfound')", "SystemExit: no licence found"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("this is no Python", "SyntaxError"),
        (BACKENDS + "raise SystemExit(1)", "SystemExit: 1"),
        (BACKENDS + "yield BackendSpec('x', 'toy', '', 'x:y')", r"schemes='toy'\), expected tuple\[str"),
        (BACKENDS + "yield BackendSpec(7, ('toy',), '', 'x:y')", r"BackendSpec\(name=7\), expected str"),
        (BACKENDS + "yield BackendSpec('x', ('toy', 7), '', 'x:y')", "schemes="),
        (BACKENDS + "yield SinkSpec('x', '', 'x:y')", "expected BackendSpec"),
        (BACKENDS + "return 7", "TypeError"),
    ],
)
def test_a_plugin_that_is_broken_in_any_way_costs_one_line_and_only_itself(site, caplog, source, why):
    install(site, "bad-store", "0.1", "bad", source)
    registry = Registry()
    kept(registry, "bad")
    (record,) = [r for r in caplog.records if r.name == "promoter.registry"]
    assert re.search(why, record.getMessage())
    with pytest.raises(PluginError, match="plugin 'bad' of bad-store 0.1 is broken"):
        registry.backend("bad://")
    with pytest.raises(ConfigError, match="unknown URL scheme 'other'.*; broken plugins, left out: bad"):
        registry.backend("other://")


def raises(exc):
    def factory(*args, **options):
        raise exc

    return factory


async def asynchronous(*args, **options):
    return MemoryBackend()


class Half:
    async def emit(self, queue, jobs):
        pass


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (raises(RuntimeError("no\nluck")), "cannot be made: RuntimeError: no luck"),
        (raises(SystemExit(2)), "cannot be made: SystemExit: 2"),
        (raises(KeyError("s3cret-word")), r"cannot be made: KeyError: '\*\*\*'"),
        (lambda *a, **k: None, "its target returns NoneType, which lacks"),
        (lambda *a, **k: Half(), "its target returns Half, which lacks"),
        (asynchronous, "its target returns coroutine, which lacks"),
        (7, "attribute_of_a_test is int, expected a callable"),
    ],
)
@pytest.mark.parametrize("kind", ["backend", "event sink", "metrics sink"])
def test_a_factory_that_fails_is_one_line_that_names_the_plugin_and_its_distribution(monkeypatch, kind, target, why):
    module = types.ModuleType("plug_factory")
    vars(module)["attribute_of_a_test"] = target
    monkeypatch.setitem(sys.modules, "plug_factory", module)
    to, registry = "plug_factory:attribute_of_a_test", Registry(entry_points=False)
    spec = BackendSpec("x", ("x",), "", to) if kind == "backend" else SinkSpec("x", "", to, options=("word",))
    registry._load()
    registry._add(Registered(kind, spec, "x-dist 1.2", "x"))
    ask = {"backend": registry.backend, "event sink": registry.event_sink, "metrics sink": registry.metrics_sink}[kind]
    with pytest.raises(PluginError, match=f"{kind} 'x' of x-dist 1.2 .*{why}") as raised:
        untyped(ask)("x://u:s3cret-word@h" if kind == "backend" else "x:word=s3cret-word" if "KeyError" in why else "x")
    assert "\n" not in str(raised.value)


def test_a_factorys_own_promoter_error_is_passed_on(monkeypatch):
    module = types.ModuleType("plug_factory")
    vars(module)["open_url"] = raises(ConfigError("the path is missing"))
    monkeypatch.setitem(sys.modules, "plug_factory", module)
    registry = Registry([Plugin(BackendSpec("x", ("x",), "", "plug_factory:open_url"))], entry_points=False)
    with pytest.raises(ConfigError, match="^the path is missing$"):
        registry.backend("x://")


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.inner", "plug_exits.inner", ""])
def test_a_required_module_that_cannot_be_found_is_missing(site, module):
    (site / "plug_exits").mkdir()
    (site / "plug_exits" / "__init__.py").write_text("raise SystemExit(1)")
    spec = BackendSpec("x", ("x",), "", "x:y", requires=("json", module))
    assert Registry([Plugin(spec)], entry_points=False).all()[0].missing == (module,)


def promoter(site, *arguments):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "COLUMNS": "200"}
    command = [sys.executable, "-m", "promoter_core", *arguments]
    return processes.run(command, env=env, capture_output=True, text=True, timeout=60)


COMMAND = (
    HEAD
    + """def promoter_register_commands():
    yield CommandSpec(name="{name}", summary="", target="{target}")
"""
)


def test_the_command_line_goes_on_beside_broken_plugins(site):
    install(site, "exit-store", "1", "exits", "import sys; print('usage: …'); sys.exit(3)")
    install(site, "typo-store", "1", "typo", HEAD + "def promoter_register_backend():\n    return ()\n")
    install(site, "a-toys", "1", "toys-a", GOOD)
    install(site, "b-toys", "1", "toys-b", GOOD)
    install(site, "grabber", "1", "grabs", COMMAND.format(name="run", target="json:dumps"))
    listed = promoter(site, "plugins")
    assert listed.returncode == 0
    assert "memory://" in listed.stdout
    assert "toy://" not in listed.stdout
    for words in (
        "plugin 'exits' of exit-store 1 is broken: SystemExit: 3",
        "plugin 'typo' of typo-store 1 is broken: it implements an unknown hook 'promoter_register_backend'; did you",
        "plugin 'toys-b' of b-toys 1 is broken: two backends are named 'toy': one of a-toys 1, one of b-toys 1",
        "plugin 'grabs' of grabber 1 is broken: its command 'run' is one of Promoter's own",
    ):
        assert words in listed.stderr
    asked = promoter(site, "inspect", "--url", "toy://", "--queue", "q")
    assert asked.returncode == 1
    assert asked.stderr.splitlines()[-1].startswith("Error: two backends are named 'toy'")
    assert "Traceback" not in listed.stderr + asked.stderr


@pytest.mark.parametrize(
    ("module", "target", "why"),
    [
        ("import sys; sys.exit(3)", "plug_target:vacuum", "SystemExit: 3"),
        ("1/0", "plug_target:vacuum", "ZeroDivisionError"),
        ("", "plug_target:vacuum", "AttributeError"),
        ("vacuum = 7", "plug_target:vacuum", "expected a callable"),
        ("def vacuum(x: int | str): pass", "plug_target:vacuum", "Union types"),
    ],
)
def test_a_broken_command_says_so_when_it_is_called(site, module, target, why):
    (site / "plug_target.py").write_text(module)
    install(site, "vac-store", "1", "vac", COMMAND.format(name="vacuum", target=target))
    called = promoter(site, "vacuum", "--fast", "now")
    assert called.returncode == 1
    assert called.stderr.count("\n") == 1
    assert "Error: command 'vacuum' of vac-store 1" in called.stderr
    assert why in called.stderr
    assert promoter(site, "--version").returncode == 0


def test_a_factory_that_fails_is_one_line_on_the_command_line(site):
    source = BACKENDS + "yield BackendSpec('x', ('x',), '', '{module}:open_url')\n\ndef open_url(url): 1/0\n"
    install(site, "x-store", "2", "x", source)
    failed = promoter(site, "inspect", "--url", "x://", "--queue", "q")
    assert failed.returncode == 1
    where = "backend 'x' of x-store 2 (plug_x_store_x:open_url)"
    assert failed.stderr == f"Error: {where} cannot be made: ZeroDivisionError: division by zero\n"
