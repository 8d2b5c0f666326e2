"""The conformance kit for any backend by its URL, without writing a class:

    pytest --pyargs promoter_core.testing.conformance.by_url --promoter-url redis://localhost:6379/15

`--promoter-second-url` is another URL of the same store, for the second backend of `pair`; the default is the first
URL. `--promoter-unreachable-url` is a URL without a store. The kit's other fixtures come from a pytest plugin, with
the prefix `promoter_`: for example `-p my_fixtures`, with a fixture `promoter_leap` for `leap`.

The keys of its `kit-…` queues remain: use a scratch database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from promoter_core import PromoterError, Registry, connect
from promoter_core.spi import Clock, SystemClock
from promoter_core.testing.conformance import BackendContract
from promoter_core.testing.conformance.base import OPTIONAL, skip_for


def given(request: pytest.FixtureRequest, name: str) -> Any:
    """Return the value of a plugin's fixture for `name`; None if no plugin has one."""
    wanted = f"promoter_{name}"
    try:
        return request.getfixturevalue(wanted)
    except pytest.FixtureLookupError as exc:
        if exc.argname != wanted:  # another fixture, requested by the plugin's fixture
            raise
        return None


def from_plugin(name: str) -> Any:
    """Return a fixture of the kit that a plugin provides."""

    def fixture(self: Any, request: pytest.FixtureRequest) -> Any:
        if (value := given(request, name)) is None:
            skip_for(request, name)
        return value

    return pytest.fixture(name=name)(fixture)


def option(request: pytest.FixtureRequest, name: str) -> str | None:
    value = request.config.getoption(name, default=None)
    return None if value is None else str(value)


@pytest.fixture(scope="session")
def promoter_url(request: pytest.FixtureRequest) -> str:
    url = option(request, "--promoter-url")
    if url is None:
        pytest.exit("say which backend: --promoter-url redis://localhost:6379/15", pytest.ExitCode.USAGE_ERROR)
    try:
        Registry().backend(url)
    except PromoterError as error:
        pytest.exit(f"--promoter-url: {error}", pytest.ExitCode.USAGE_ERROR)
    return url


class Given(BackendContract):
    """The optional fixtures, provided by pytest plugins."""


for _name in OPTIONAL:
    setattr(Given, _name, from_plugin(_name))


class TestConformance(Given):
    @pytest.fixture
    def clock(self, request: pytest.FixtureRequest) -> Clock:
        clock: Clock | None = given(request, "clock")
        return clock or SystemClock()

    @pytest_asyncio.fixture
    async def backend(self, promoter_url: str, clock: Clock) -> AsyncIterator[Any]:
        async with connect(promoter_url, clock=None if isinstance(clock, SystemClock) else clock) as backend:
            yield backend

    @pytest_asyncio.fixture
    async def pair(
        self, backend: Any, promoter_url: str, request: pytest.FixtureRequest, clock: Clock
    ) -> AsyncIterator[Any]:
        url = option(request, "--promoter-second-url")
        if url is None and not backend.capabilities.shared:
            pytest.skip("needs the capability shared=True: a second backend would have another store")
        async with connect(url or promoter_url, clock=None if isinstance(clock, SystemClock) else clock) as second:
            yield backend, second

    @pytest.fixture
    def unreachable(self, request: pytest.FixtureRequest) -> Any:
        if (url := option(request, "--promoter-unreachable-url")) is not None:
            return Registry().backend(url)
        if (value := given(request, "unreachable")) is None:
            skip_for(request, "unreachable")
        return value
