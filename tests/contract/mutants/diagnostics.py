"""Wrong with a diagnosis."""

from __future__ import annotations

from promoter_core.spi import Finding, JobRequest, Lease, PromotionRequest, Severity
from tests.contract.mutants.honest import CompleteBackend


class LeavesItsQueueBehind(CompleteBackend):
    killed_by = "test_a_diagnosis_leaves_nothing_behind"

    def clean(self, name):
        pass


class CleansUpTheWholeStore(CompleteBackend):
    killed_by = "test_a_diagnosis_leaves_nothing_behind"

    def clean(self, name):
        self._store._queues.clear()


class RehearsesOnTheQueuesThatThereAre(CompleteBackend):
    killed_by = "test_a_diagnosis_leaves_a_queue_as_it_is"

    async def diagnose(self):
        for queue, q in self._store.queues():
            if q.lock is not None:
                await self.schedule(queue, [JobRequest("doctor", b"", delay_ms=60_000)])
        return await super().diagnose()


class PromotesToSeeThatItCan(CompleteBackend):
    killed_by = "test_a_diagnosis_leaves_a_queue_as_it_is"

    async def diagnose(self):
        for queue, _ in self._store.queues():
            await self.promote(Lease(queue, "leader", 60_000), PromotionRequest(limit=1, max_stream_len=100))
        return await super().diagnose()


class TakesTheLocks(CompleteBackend):
    killed_by = "test_a_diagnosis_leaves_a_queue_as_it_is"

    async def diagnose(self):
        for _, q in self._store.queues():
            q.lock = None
        return await super().diagnose()


class SaysNothingOfWhatToDo(CompleteBackend):
    killed_by = "test_a_finding_that_is_not_ok_says_what_to_do"

    async def diagnose(self):
        return [Finding(f.severity, f.summary) for f in await super().diagnose()]


class SaysNothingAtAll(CompleteBackend):
    killed_by = "test_a_finding_that_is_not_ok_says_what_to_do"

    async def diagnose(self):
        return [Finding(Severity.OK, "")]


class FindsText(CompleteBackend):
    killed_by = "test_a_finding_that_is_not_ok_says_what_to_do"

    async def diagnose(self):
        return [f.summary for f in await super().diagnose()]


class WaitsForAQuestion(CompleteBackend):
    killed_by = "test_it_has_the_shape_of_a_backend"

    async def diagnose(self, question):
        return await super().diagnose()
