"""The contract of layouts in place, with the real producers and workers of the frameworks in `tests.frameworks`.

Their own movers, for comparison and beside ours, are in `test_frameworks_in_place.py`, and RQ's lock in
`test_rq_in_place.py`.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import itertools
import json
import time

import pytest

from promoter_core import Promoter, PromoterSettings
from promoter_core.testing.conformance import InPlaceContract
from tests.frameworks import IN_PLACE, Framework, started
from tests.frameworks.checks import QUEUE, running
from tests.server.bench import until
from tests.server.in_place.test_contract import WithServer

pytestmark = pytest.mark.server
VALUE: list[object] = [[], {}, "é\0", None, 1.5, "x" * 10_000]


class OfFramework(WithServer):
    framework: Framework
    golden = InPlaceContract.golden  # elsewhere

    @pytest.fixture(autouse=True)
    def installed(self):
        if not self.framework.version:
            pytest.skip(f"{self.framework.package} is not installed")

    @pytest.fixture
    def queue(self):
        return QUEUE

    @property
    def value(self):
        return [*VALUE, 2**53 + 1] if self.framework.module else VALUE  # more than JavaScript has

    @pytest.fixture
    def produce(self, server, tmp_path):
        numbers, path = itertools.count(), tmp_path / "jobs.json"

        async def produce(dues):
            some = [{"id": f"j{next(numbers)}", "due": due, "value": self.value} for due in dues]
            path.write_text(json.dumps(some))
            if self.framework.name in ("bee-queue", "huey"):  # JavaScript; a time zone of its own
                await asyncio.to_thread(self.framework.run, "produce", server.url, QUEUE, path)
            else:
                # Here, for another interpreter may start later than the jobs are due.
                make = importlib.import_module(f"tests.frameworks.with_{self.framework.name}").produce
                made = await asyncio.to_thread(make, server.url, QUEUE, str(path))
                await (made if inspect.isawaitable(made) else asyncio.sleep(0))
            return [job["id"] for job in some]

        return produce

    @pytest.fixture
    def consume(self, server, client, backend, tmp_path):
        out, seen = tmp_path / "out", 0

        async def consume():
            nonlocal seen
            if not (waiting := (await backend.stats(QUEUE)).stream_len):
                return []
            # SAQ's worker runs a job twice that it takes while it looks for stuck ones, which is when it starts.
            await client.set("saq:mail:sweep", 1, ex=60)
            with running(self.framework.start("work", server.url, QUEUE, out)):

                async def worked():
                    return len(started(out)) >= seen + waiting

                await until(worked, 30)
                await asyncio.sleep(0.2)  # for those that come twice
            lines = started(out)[seen:]
            seen += len(lines)
            assert all(line["value"] == self.value for line in lines)
            return [line["id"] for line in lines]

        return consume

    async def test_a_job_ends_a_long_sleep_of_the_promoter(self, server, backend, produce):
        """Between the two jobs the promoter does nothing, so it does not find the second one by looking."""
        ticks, promote = 0, backend.promote

        async def counted(*words):
            nonlocal ticks
            ticks += 1
            return await promote(*words)

        backend.promote = counted
        await produce([time.time() + 3600])
        async with Promoter(backend, QUEUE, settings=PromoterSettings(lock_ttl_ms=3_600_000)).running():
            await until(lambda: asyncio.sleep(0, ticks > 0))
            await asyncio.sleep(0.5)
            before = ticks
            await asyncio.sleep(0.5)
            assert ticks == before
            await produce([time.time() + 1.5])

            async def moved():
                return (await backend.stats(QUEUE)).stream_len == 1

            await until(moved, 30)


KEYS = {  # the set and the target
    "rq": ("rq:scheduled:mail", "rq:queue:mail"),
    "huey": ("huey.schedule.mail", "huey.redis.mail"),
    "saq": ("saq:mail:incomplete", "saq:mail:queued"),
    "docket": ("mail:queue", "mail:stream"),
    "streaq": ("streaq:mail:queues:delayed:normal", "streaq:mail:queues:normal"),
    "bee-queue": ("bq:mail:delayed", "bq:mail:waiting"),
}
for name, (source, target) in KEYS.items():
    marks = {"framework": IN_PLACE[name], "layout": name, "source": source, "target": target, "__module__": __name__}
    if name == "saq":
        marks["below"] = pytest.fixture(lambda self: 0.0)
    title = f"Test{name.title().replace('-', '')}"
    globals()[title] = type(title, (OfFramework,), marks)
