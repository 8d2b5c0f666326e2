"""The kit's words on a backend of the wrong shape, and how far a test class may change the kit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from promoter_core import connect
from promoter_core.spi import (
    Capabilities,
    ChangeKind,
    Changes,
    DeadLetterSupport,
    DiagnosticsSupport,
    Finding,
    FleetSupport,
    Lease,
    Members,
    Phase,
    Promotion,
    Renewal,
    Wake,
)
from promoter_core.testing import VirtualClock
from promoter_core.testing.conformance import BackendContract, EventSinkContract
from promoter_core.testing.conformance.base import needs_support
from promoter_core.testing.conformance.harness import Kit
from promoter_core.testing.conformance.shape_checks import CheckedBackend, shape_problems
from promoter_memory.backend import MemoryBackend
from tests.typed import untyped


class Odd:
    capabilities = Capabilities(wake=Wake.POLL)

    async def lock(self, queue, holder, ttl_ms):
        return True

    async def promote(self, lease, request):
        return Promotion(promoted=untyped("three"))

    def unlock(self, lease):
        return True

    async def wait(self, queue):
        return True

    async def stats(self, queue):
        raise KeyError("mine")


class OddAbilities(MemoryBackend):
    """Offers every optional protocol, and answers each of its methods wrongly."""

    async def emit(self, queue, jobs, max_stream_len):
        return len(jobs)

    async def lock_many(self, queues, holder, ttl_ms):
        return [Lease("q", holder, ttl_ms)]

    async def promote_many(self, requests):
        return "ab"

    async def renew_many(self, leases):
        return [Renewal(0, untyped(1), None)]

    async def find_queues(self, patterns):
        yield "q"

    async def subscribe(self):
        return OddFeed()

    async def join_group(self, group, member, ttl_ms):
        return Members(untyped(["me"]), None)

    async def leave_group(self, group, member):
        raise ValueError("mine")

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        return 1

    async def delete_dead_letters(self, queue, entry_ids):
        return True

    async def diagnose(self):
        return [Finding(untyped("bad"), "the disk is full")]


class OddFeed:
    async def next(self, timeout_s):
        return Changes(jobs=untyped(["q"]))

    def close(self):
        pass


async def pages(backend):
    return [page async for page in backend.find_queues(["*"])]


async def changes(backend):
    return await (await backend.subscribe()).next(0)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda b: b.cancel("q", ["a"]),
            r"the backend lacks the method 'cancel'; see promoter_core\.spi\.Backend\.cancel",
        ),
        (
            lambda b: b.wait("q", ChangeKind.LOCK, 1.0),
            "Backend.wait cannot be called as the contract says: .*positional",
        ),
        (
            lambda b: b.cleanup("q", []),
            r"the backend lacks the method 'cleanup'; see promoter_core\.spi\.SeparateCleanup\.cleanup",
        ),
        (lambda b: b.unlock(None), "Backend.unlock must be `async def`; it returned bool"),
        (lambda b: b.lock("q", "me", 1), "Backend.lock must return Lease or LeaseHeld, not bool: True"),
        (lambda b: b.promote(None, None), "Promotion.promoted must be a whole number from 0, not 'three'"),
        (lambda b: b.stats("q"), r"Backend.stats raised builtins.KeyError \('mine'\): a backend raises only"),
    ],
)
async def test_what_is_wrong_is_told_in_one_sentence(call, sentence):
    with pytest.raises(AssertionError, match=sentence) as raised:
        await call(CheckedBackend(Odd()))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda b: b.emit("q", [], 1), "SeparateEmit.emit must return None, not int: 0"),
        (lambda b: b.lock_many(["a", "b"], "me", 1), "FleetSupport.lock_many must give one answer each: 1 for 2"),
        (lambda b: b.promote_many([]), "FleetSupport.promote_many must return Sequence, not str: 'ab'"),
        (lambda b: b.renew_many([1]), "Renewal.due must be bool, not 1"),
        (pages, "DiscoverySupport.find_queues must return Sequence, not str: 'q'"),
        (changes, r"Changes.jobs must be a frozenset of str, not \['q'\]"),
        (lambda b: b.join_group("g", "me", 1), r"Members.names must be a frozenset of str, not \['me'\]"),
        (
            lambda b: b.leave_group("g", "me"),
            r"FleetSupport.leave_group raised builtins.ValueError \(mine\): a backend",
        ),
        (
            lambda b: b.requeue_dead_letter("q", "1-1", b"", ""),
            "DeadLetterSupport.requeue_dead_letter must return bool, not int: 1",
        ),
        (
            lambda b: b.delete_dead_letters("q", ["1-1"]),
            "DeadLetterSupport.delete_dead_letters must return a whole number from 0, not True",
        ),
        (lambda b: b.diagnose(), "Finding.severity must be a Severity, not 'bad'"),
    ],
)
async def test_what_is_wrong_with_an_optional_method_is_told_in_one_sentence(call, sentence):
    with pytest.raises(AssertionError, match=sentence) as raised:
        await call(CheckedBackend(OddAbilities()))
    assert "\n" not in str(raised.value)


def test_the_shape_of_a_backend_is_told_as_a_whole():
    problems = shape_problems(Odd())
    assert "it lacks the method 'schedule'" in problems
    assert "'unlock' must be `async def`" in problems
    assert any(p.startswith("'wait' must take (queue, change, timeout_s)") for p in problems)
    assert "it lacks the method 'emit': EMIT is not in capabilities.fused" in problems
    assert shape_problems(MemoryBackend()) == []


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "separate"])
@pytest.mark.parametrize("method", [True, False], ids=["with", "without"])
def test_a_phase_needs_its_method_exactly_when_it_is_not_fused(phase, fused, method):
    others = frozenset(Phase) - {phase}
    members = {"capabilities": Capabilities(Wake.POLL, fused=frozenset(Phase) if fused else others)}
    backend = type("Mine", (MemoryBackend,), members | ({} if method else {phase.value: None}))()
    expected = [f"it lacks the method {phase.value!r}: {phase.name} is not in capabilities.fused"]
    assert shape_problems(backend) == ([] if fused or method else expected)


def test_the_shape_of_the_optional_methods_is_told_too():
    class Mine(MemoryBackend):
        async def cleanup(self, queue, promoted):
            pass

        def lock_many(self, queues, holder, ttl_ms):
            return []

        async def find_queues(self, patterns):  # type: ignore[override]
            return []

        async def requeue_dead_letter(self, queue, entry_id):
            return True

        async def delete_dead_letters(self, queue, entry_ids):
            return 0

    problems = shape_problems(Mine())
    assert [problem.split(":")[0] for problem in problems] == [
        "'cleanup' must take (queue, jobs)",
        "'find_queues' must return an async iterator, without being awaited",
        "'lock_many' must be `async def`",
        "'requeue_dead_letter' must take (queue, entry_id, envelope, name)",
    ]


async def test_the_methods_of_a_protocol_that_is_offered_in_part_are_named():
    class Mine(MemoryBackend):
        async def requeue_dead_letter(self, queue, entry_id, envelope, name):
            return False

    kit = Kit(CheckedBackend(Mine()), VirtualClock())
    with pytest.raises(pytest.skip.Exception) as skipped:
        needs_support(kit, DeadLetterSupport)
    assert str(skipped.value) == (
        "needs a backend that offers DeadLetterSupport; of its methods this one lacks delete_dead_letters"
    )
    with pytest.raises(pytest.skip.Exception) as skipped:
        needs_support(kit, DiagnosticsSupport)
    assert str(skipped.value) == "needs a backend that offers DiagnosticsSupport"
    needs_support(kit, FleetSupport)


def test_a_standard_test_cannot_be_replaced_in_silence():
    with pytest.raises(TypeError, match="Mine replaces the standard test test_a_free_lock_is_granted: .*xfail"):

        class Mine(BackendContract):
            async def test_a_free_lock_is_granted(self, kit):
                pass


def test_a_standard_test_cannot_be_deleted_in_silence():
    with pytest.raises(TypeError, match="replaces the standard test"):

        class Mine(EventSinkContract):
            test_it_takes_any_batch = untyped(None)


def test_an_xfail_needs_a_reason():
    with pytest.raises(TypeError, match="replaces the standard test"):

        class Mine(BackendContract):
            @pytest.mark.xfail
            async def test_a_free_lock_is_granted(self, kit):
                pass


def test_an_xfail_with_a_reason_is_allowed():
    class Mine(BackendContract):
        @pytest.mark.xfail(reason="known")
        async def test_a_free_lock_is_granted(self, kit):
            await super().test_a_free_lock_is_granted(kit)

        async def test_of_my_own(self, kit):
            pass


def test_the_kit_has_at_least_fifty_tests():
    assert len([name for name in dir(BackendContract) if name.startswith("test_")]) >= 50


def test_without_pytest_it_says_which_extra_is_missing():
    code = "import sys; sys.modules['pytest'] = None; import promoter_core.testing.conformance"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == (
        "ImportError: the conformance kit needs pytest: pip install 'promoter-core[testing]'"
    )


def test_a_fixture_that_gives_what_connect_returns_is_told_so():
    with pytest.raises(AssertionError, match="what connect\\(\\) returns before it is entered"):
        CheckedBackend(connect("memory://"))
