"""`promoter doctor` on a queue, by what it finds."""

from __future__ import annotations

import json
import sys

from promoter_core.cli import doctor
from tests import processes
from tests.unit.memory_bench import promoter


async def test_a_store_without_consumer_groups_is_not_asked_for_one(backend, clock, queue):
    await queue.schedule(1)
    async with promoter(backend, clock).running():
        await clock.sleep(1)
        assert (await backend.stats("q")).stream_len == 1
        found = [finding.summary for finding in await doctor._look_at(backend, "q")]
    (leader,) = found
    assert " leads, with " in leader


def test_a_backend_without_checks_of_its_own_says_so():
    command = [sys.executable, "-m", "promoter_core", "doctor", "--url", "memory://", "--json"]
    done = processes.run(command, capture_output=True, text=True)
    found = {finding["summary"]: finding["severity"] for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["jobs end with the process"] == "problem"
    assert found["the backend MemoryBackend offers no further checks (DiagnosticsSupport)"] == "ok"
