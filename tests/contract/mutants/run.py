"""The kit on every mutant and on the honest backends, one class each. Run by `test_mutants.py`, never collected."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from promoter_core.testing.conformance import BackendContract
from promoter_memory.backend import MemoryBackend
from promoter_memory.store import MemoryStore
from tests.contract.mutants import (
    cancelling,
    cancelling_locks,
    changing,
    clocks,
    closing,
    dead_letters,
    diagnostics,
    feeds,
    finding,
    fleet,
    identity,
    kept,
    leases,
    locks,
    look_alikes,
    management,
    manners,
    numbers,
    odd_members,
    orders,
    paging,
    phases,
    phases2,
    processes,
    processes_jobs,
    promoting,
    races,
    replacing,
    running,
    scheduling,
    texts,
    wakes,
)
from tests.contract.mutants.honest import CompleteBackend, DistantBackend, FusedBackend, QueueingBackend
from tests.contract.stores import OnAVirtualClock, names_in_memory

HONEST = {
    "Honest": MemoryBackend,
    "HonestFused": FusedBackend,
    "HonestComplete": CompleteBackend,
    "HonestDistant": DistantBackend,
    "HonestQueueing": QueueingBackend,
}
MODULES = (
    locks,
    promoting,
    scheduling,
    manners,
    phases,
    fleet,
    dead_letters,
    diagnostics,
    processes,
    processes_jobs,
    cancelling,
    cancelling_locks,
    leases,
    clocks,
    phases2,
    texts,
    look_alikes,
    numbers,
    orders,
    identity,
    wakes,
    closing,
    feeds,
    finding,
    kept,
    management,
    odd_members,
    paging,
    changing,
    running,
    replacing,
    races,
)
MUTANTS: dict[str, Any] = {
    name: cls
    for module in MODULES
    for name, cls in inspect.getmembers(module, inspect.isclass)
    if "killed_by" in vars(cls)
}


def contract(backend_class):
    class Contract(OnAVirtualClock, BackendContract):
        @pytest.fixture
        def store(self, clock):
            return MemoryStore(clock)

        @pytest.fixture
        async def backend(self, store):
            backend = backend_class(store)
            await backend.open()
            return backend

        @pytest.fixture
        async def pair(self, backend, store):
            second = backend_class(store)
            await second.open()
            return backend, second

        @pytest.fixture
        def add_malformed(self, backend):
            if not hasattr(backend, "add_malformed"):
                pytest.skip("needs the fixture `add_malformed`: nothing that is no job can come into this store")
            return backend.add_malformed

        @pytest.fixture
        def add_parked(self, backend):
            if not hasattr(backend, "add_parked"):
                pytest.skip("needs the fixture `add_parked`: no other client can put a job into this store")
            return backend.add_parked

        @pytest.fixture
        def stored_names(self, store):
            async def names():
                return names_in_memory(store)

            return names

    return Contract


def without_others(contract_class, meant):
    """The class with one of its tests alone: for each mutant, to collect them all takes longer than to run the one."""
    for test in [name for name in dir(contract_class) if name.startswith("test_") and name != meant]:
        setattr(contract_class, test, None)
    return contract_class


for name, cls in HONEST.items():
    globals()[f"Test{name}"] = contract(cls)
for name, cls in MUTANTS.items():
    globals()[f"Test{name}"] = without_others(contract(cls), cls.killed_by)
