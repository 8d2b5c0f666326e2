"""The kit on the memory backend as it is loaded now: mutated, in a forked process. Run by `forks.py` alone."""

from __future__ import annotations

import pytest

from promoter_core.spi import BackendUrl
from promoter_core.testing.conformance import BackendContract
from tests.contract.mutants.generated import loading
from tests.contract.stores import OnAVirtualClock, names_in_memory


async def opened(clock):
    """An open backend of the same store for all who have this clock, as `connect` makes it."""
    url = BackendUrl(scheme="memory", hosts=((f"store-{id(clock)}", None),), clock=clock)
    try:
        backend = loading.modules["backend"].open_url(url)
        await backend.open()
    except Exception as error:
        raise AssertionError(f"there is no backend: {error!r}") from error
    return backend


class TestGenerated(OnAVirtualClock, BackendContract):
    @pytest.fixture
    async def backend(self, clock):
        backend = await opened(clock)
        yield backend
        await backend.close()

    @pytest.fixture
    async def pair(self, backend, clock):
        second = await opened(clock)
        yield backend, second
        await second.close()

    @pytest.fixture
    def stored_names(self, backend):
        async def names():
            try:
                return names_in_memory(backend._store)
            except TypeError as error:
                raise AssertionError(f"the store does not say what is in it: {error}") from error

        return names
