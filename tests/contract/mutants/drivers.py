"""Wrong with the driver: it is called in the event loop's thread, or its exceptions come out."""

from __future__ import annotations

import time
from dataclasses import replace

from promoter_core.spi import BackendError, TransientError
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import DistantBackend

FSYNC_S = 0.12


class OnADisk(MemoryBackend):
    capabilities = replace(MemoryBackend.capabilities, durable=True)


class SchedulesInTheEventLoop(OnADisk):
    killed_by = "test_a_call_with_many_jobs_does_not_block_the_event_loop"

    async def schedule(self, queue, jobs):
        time.sleep(FSYNC_S)  # noqa: ASYNC251  # that is the mutation
        return await super().schedule(queue, jobs)


class CancelsInTheEventLoop(OnADisk):
    killed_by = "test_a_call_with_many_jobs_does_not_block_the_event_loop"

    async def cancel(self, queue, ids):
        time.sleep(FSYNC_S)  # noqa: ASYNC251  # that is the mutation
        return await super().cancel(queue, ids)


class PromotesInTheEventLoop(OnADisk):
    killed_by = "test_a_call_with_many_jobs_does_not_block_the_event_loop"

    async def promote(self, lease, request):
        time.sleep(FSYNC_S)  # noqa: ASYNC251  # that is the mutation
        return await super().promote(lease, request)


class TranslatesErrors(DistantBackend):
    """Each call can fail on its way to the store and back; a subclass forgets what that means in one method."""

    capabilities = replace(DistantBackend.capabilities, shared=True)
    forgets = ""


def _translated(name, method):
    async def call(self, *args, **kwargs):
        try:
            return await method(self, *args, **kwargs)
        except BackendError:
            raise
        except Exception as exc:
            if self.forgets == name:
                raise
            raise TransientError(f"the store: {exc}", code="CONNECTION") from exc

    return call


for name in (
    *("lock", "promote", "unlock", "schedule", "cancel", "stats", "cleanup", "emit", "join_group", "leave_group"),
    *("get_jobs", "list_jobs", "count_jobs", "change_jobs", "requeue_dead_letter", "delete_dead_letters"),
):
    setattr(TranslatesErrors, name, _translated(name, getattr(DistantBackend, name)))


class LetsAnErrorOfScheduleOut(TranslatesErrors):
    killed_by = "test_a_lost_connection_is_an_error_of_the_contract"
    forgets = "schedule"


class LetsAnErrorOfStatsOut(TranslatesErrors):
    killed_by = "test_a_lost_connection_is_an_error_of_the_contract"
    forgets = "stats"


class LetsAnErrorOfAListOut(TranslatesErrors):
    killed_by = "test_a_lost_connection_is_an_error_of_the_contract"
    forgets = "list_jobs"
