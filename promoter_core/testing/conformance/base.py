"""The fixtures of the contracts, and protection of the standard tests against silent overriding."""

from __future__ import annotations

from typing import Any

import pytest

from promoter_core.spi import Clock, DeadLetterSupport, ManagementSupport, SystemClock, Ties, Wake
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.shape_checks import CheckedBackend
from promoter_core.testing.forward import members_of

_OURS = __name__.rpartition(".")[0]


class Guarded:
    """A contract whose tests a subclass can mark as `xfail(reason=…)`, but not replace or remove.

    Each test has the keyword `kit_` and the name of its file: `pytest -k kit_lock` runs those of lock.py.
    """

    kit_summary = True  # promoter_pytest counts its tests at the end of a run, and what the skipped ones need

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.startswith(_OURS):
            for name, value in vars(cls).items():
                if name.startswith("test_"):
                    setattr(value, f"kit_{cls.__module__.rpartition('.')[2]}", True)
            return
        for name, value in vars(cls).items():
            if not name.startswith("test_") or not any(name in vars(base) for base in cls.__mro__[1:]):
                continue
            marks = getattr(value, "pytestmark", [])
            if not any(m.name == "xfail" and m.kwargs.get("reason") for m in marks):
                raise TypeError(
                    f"{cls.__name__} replaces the standard test {name}: a known failure is marked instead, as "
                    f"@pytest.mark.xfail(reason=…) async def {name}(self, …): await super().{name}(…)"
                )


def missing(name: str, message: str) -> Any:
    """Return a fixture that the author must provide."""

    def fixture(self: Any) -> Any:
        raise NotImplementedError(message)

    return pytest.fixture(name=name)(fixture)


OPTIONAL: dict[str, str] = {}  # optional fixtures, and their descriptions


PROTOCOLS: dict[str, type] = {}  # optional fixtures that only a backend with this ability can need


def skip_for(request: pytest.FixtureRequest, name: str) -> None:
    """Skip because an optional fixture is missing, or because the backend has no ability that needs it."""
    if (protocol := PROTOCOLS.get(name)) is not None:
        needs_support(request.getfixturevalue("kit"), protocol)
    pytest.skip(f"needs the fixture `{name}`: {OPTIONAL[name]}")


def optional(name: str, what: str, protocol: type | None = None) -> Any:
    """Return a fixture that the author can provide; tests that need it are skipped otherwise.

    A backend without `protocol` cannot need it: the reason of the skip is then the protocol.
    """
    OPTIONAL[name] = what

    def fixture(self: Any, request: pytest.FixtureRequest) -> Any:
        skip_for(request, name)

    if protocol is not None:
        PROTOCOLS[name] = protocol
    return pytest.fixture(name=name)(fixture)


@pytest.mark.asyncio
class ContractBase(Guarded):
    """The author provides `backend`. The tests use `kit`.

    Optional fixtures:

    - `pair`: two open backends on one store, closed afterwards
    - `unreachable`: a backend, not yet open, whose store cannot be reached
    - `clock`: the clock that the backend's waits use
    - `leap`: `async (queue, ms)`, advances the store's time by that much immediately
    - `set_time`: `async (ms)`, stops the store's clock at this Unix time until the next call; times only increase
    - `add_malformed`: `async (queue, member)`, adds bytes that are not a job to the queue's sorted set, due now
    - `add_parked`: `async (queue, request)`, adds a job to the set like another client: due after the year 9999, and
      without an index
    - `stored_names`: `async ()`, returns the names of everything in the store, such as a server's keys
    """

    # Annotated as Any, so that a subclass can replace them with fixtures of another type.
    backend: Any = missing("backend", "give your contract class a fixture `backend` that yields an open backend")
    pair: Any = optional("pair", "two backends on one store")
    unreachable: Any = optional("unreachable", "a backend whose store cannot be reached")
    clock: Any = pytest.fixture(name="clock")(lambda self: SystemClock())
    leap: Any = optional("leap", "async (queue, ms): advances the clock of the store by that many milliseconds")
    set_time: Any = optional("set_time", "async (ms): stops the clock of the store at this Unix time, in milliseconds")
    add_malformed: Any = optional(
        "add_malformed", "async (queue, member): adds a malformed member to the sorted set", DeadLetterSupport
    )
    add_parked: Any = optional(
        "add_parked", "async (queue, request): adds a job that is due after the year 9999", ManagementSupport
    )
    stored_names: Any = optional("stored_names", "async (): returns the names of all keys in the store")

    @pytest.fixture
    def kit(self, backend: Any, clock: Clock) -> Kit:
        return Kit(CheckedBackend(backend), clock)


def needs_wake(kit: Kit) -> None:
    """Skip if the backend cannot report changes."""
    if kit.backend.capabilities.wake is Wake.POLL:
        pytest.skip("needs the capability wake=any-write or wake=announced; this backend has wake=poll")


def needs_support(kit: Kit, protocol: type) -> None:
    """Skip if the backend does not offer an optional protocol."""
    if isinstance(kit.backend, protocol):
        return
    members = members_of(protocol)
    lacking = [name for name in members if not hasattr(kit.backend.inner, name)]
    but = f"; of its methods this one lacks {', '.join(lacking)}" if len(lacking) < len(members) else ""
    pytest.skip(f"needs a backend that offers {protocol.__name__}{but}")


def needs_a_store_outside(kit: Kit) -> None:
    """Skip if the store is memory of this process, which needs no driver."""
    if not (kit.backend.capabilities.durable or kit.backend.capabilities.shared):
        pytest.skip("needs the capability durable=True or shared=True: this store is memory of the process")


def needs_ties(kit: Kit, ties: Ties) -> None:
    if kit.backend.capabilities.ties is not ties:
        pytest.skip(f"needs the capability ties={ties}; this backend has ties={kit.backend.capabilities.ties}")
