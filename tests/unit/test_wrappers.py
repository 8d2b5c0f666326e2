"""Each optional protocol is known to the wrappers and to the kit, which has a file of tests for it."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from promoter_core.spi import Backend, Capabilities, Wake, optional
from promoter_core.testing import FaultyBackend, conformance
from promoter_core.testing.conformance.answers import ANSWERS
from promoter_core.testing.conformance.base import ContractBase
from promoter_core.testing.conformance.shape_checks import CheckedBackend
from promoter_core.testing.forward import OPTIONAL, members_of
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import CompleteBackend, FusedBackend

OPTIONAL_FILES = sorted(path.stem for path in Path(optional.__file__).parent.glob("[!_]*.py"))
KIT_FILES = sorted(path.stem for path in Path(conformance.__file__).parent.glob("[!_]*.py"))
OF_NO_BACKEND = {"ChangeFeed", "FleetBackend"}  # what `subscribe` answers; a name for two protocols together


def protocols_of(file):
    module = importlib.import_module(f"{optional.__name__}.{file}")
    found = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    return [cls for cls in found if getattr(cls, "_is_protocol", False) and cls.__name__ not in OF_NO_BACKEND]


PROTOCOLS = [protocol for file in OPTIONAL_FILES for protocol in protocols_of(file)]


def twice(backend):
    return FaultyBackend(FaultyBackend(backend))


WRAPPERS = [FaultyBackend, CheckedBackend, twice]


def plain(*protocols, without=()):
    """A backend that offers these protocols and no other, but for some members."""
    declared = {name: member for protocol in (Backend, *protocols) for name, member in members_of(protocol).items()}
    members = {name: member if inspect.isfunction(member) else object() for name, member in declared.items()}
    members["capabilities"] = Capabilities(Wake.POLL)
    return type("Plain", (), {name: members[name] for name in members if name not in without})()


def offers(backend, protocol):
    """As Python 3.12 and newer look: an attribute that only `__getattr__` knows does not count."""
    return all(inspect.getattr_static(backend, name, None) is not None for name in members_of(protocol))


def test_there_are_optional_protocols():
    assert {"SeparateCleanup", "FleetSupport", "DiagnosticsSupport"} <= {protocol.__name__ for protocol in PROTOCOLS}


def test_the_wrappers_know_every_optional_protocol():
    assert set(OPTIONAL) == set(PROTOCOLS)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrapper_offers_the_protocol_that_the_wrapped_backend_offers_and_no_other(wrapper, protocol):
    wrapped = wrapper(plain(protocol))
    for one in PROTOCOLS:
        expected = members_of(one).keys() <= members_of(protocol).keys()
        assert isinstance(wrapped, one) == offers(wrapped, one) == expected, one
    assert isinstance(wrapped, Backend)
    assert offers(wrapped, Backend)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("backend", [MemoryBackend, FusedBackend, CompleteBackend, plain])
def test_a_wrapper_offers_what_the_wrapped_backend_offers(wrapper, backend):
    wrapped = backend()
    for protocol in PROTOCOLS:
        found = isinstance(wrapper(wrapped), protocol), offers(wrapper(wrapped), protocol)
        assert found == (isinstance(wrapped, protocol), offers(wrapped, protocol)), protocol


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_protocol_that_is_offered_in_part_is_not_offered(wrapper):
    for protocol in PROTOCOLS:
        for missing in members_of(protocol):
            wrapped = wrapper(plain(*PROTOCOLS, without=(missing,)))
            assert not isinstance(wrapped, protocol), missing
            assert not offers(wrapped, protocol), missing


def test_the_kit_checks_the_answer_of_every_method():
    methods = {name for p in (Backend, *PROTOCOLS) for name, m in members_of(p).items() if inspect.isfunction(m)}
    assert methods == set(ANSWERS)


@pytest.mark.parametrize("file", OPTIONAL_FILES)
def test_each_file_of_optional_protocols_has_its_tests_in_a_file_of_the_same_name(file):
    assert file in KIT_FILES
    (contract,) = contracts_of(file)
    assert issubclass(conformance.BackendContract, contract)
    assert any(name.startswith("test_") for name in vars(contract))
    source = inspect.getsource(importlib.import_module(f"{conformance.__name__}.{file}"))
    for protocol in protocols_of(file):
        assert f"needs_support(kit, {protocol.__name__})" in source


def contracts_of(file):
    module = importlib.import_module(f"{conformance.__name__}.{file}")
    found = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    return [cls for cls in found if issubclass(cls, ContractBase) and cls is not ContractBase]


@pytest.mark.parametrize("file", [file for file in KIT_FILES if file != "by_url"])
def test_a_contract_has_the_name_of_its_file(file):
    expected = file.replace("_", " ").title().replace(" ", "") + "Contract"
    assert [cls.__name__ for cls in contracts_of(file)] in ([], [expected])


def test_the_map_of_the_kit_names_all_its_files():
    for file in KIT_FILES:
        assert f"{file}.py" in conformance.__doc__
