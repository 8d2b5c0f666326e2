"""The conformance kit for any backend by its URL, without writing a class:

    pytest --pyargs promoter_core.testing.conformance.by_url --promoter-url redis://localhost:6379/15

It leaves the keys of its `kit-…` queues behind: use a scratch database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from promoter_core import connect
from promoter_core.testing.conformance import BackendContract


@pytest.fixture(scope="session")
def promoter_url(request: pytest.FixtureRequest) -> str:
    url = request.config.getoption("--promoter-url", default=None)
    if url is None:
        pytest.fail("say which backend: --promoter-url redis://localhost:6379/15", pytrace=False)
    return str(url)


class TestConformance(BackendContract):
    @pytest_asyncio.fixture
    async def backend(self, promoter_url: str) -> AsyncIterator[Any]:
        async with connect(promoter_url) as backend:
            yield backend

    @pytest_asyncio.fixture
    async def pair(self, backend: Any, promoter_url: str) -> AsyncIterator[Any]:
        if not backend.capabilities.shared:
            pytest.skip("needs the capability shared=True: a second backend would have another store")
        async with connect(promoter_url) as second:
            yield backend, second
