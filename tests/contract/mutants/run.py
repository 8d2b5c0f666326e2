"""The kit on one backend after the other: the honest ones, and every mutant. Collected for `each.py` alone.

`TestKit` is collected once, and `each.py` says which backend it is to test now.
"""

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
    drivers,
    each,
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
    drivers,
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


class TestKit(OnAVirtualClock, BackendContract):
    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock)

    @pytest.fixture
    async def backend(self, store):
        backend = each.tested(store)
        await backend.open()
        return backend

    @pytest.fixture
    async def pair(self, backend, store):
        second = each.tested(store)
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
