"""Wrong with malformed members, or with the DLQ."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from promoter_core.spi import LeaseLost, StreamName
from tests.contract.mutants.honest import CompleteBackend, Malformed


class DropsMalformedMembers(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    def dead_letter(self, q, now_ms, job):
        q.cancel(job)


class KeepsMalformedMembersInTheSet(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    def dead_letter(self, q, now_ms, job):
        super().dead_letter(q, now_ms, job)
        q.add(replace(job, gone=False, earlier=None, due_ms=2**60))


class StopsAtAMalformedMember(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    async def promote(self, lease, request):
        hindered = any(isinstance(job, Malformed) for _, _, job in self._store[lease.queue]._heap)
        return await super().promote(lease, replace(request, limit=3 if hindered else request.limit, max_stream_len=1))


class PromotesMalformedMembers(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    async def add_malformed(self, queue, member):
        await super().add_malformed(queue, member)
        q, now_ms = self._queue(queue)
        q.streams[StreamName.JOBS].add(now_ms, {"d": member})


class CountsNoMalformedMembers(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        return answer if isinstance(answer, LeaseLost) else replace(answer, malformed=0)


class CountsMalformedMembersAsPromoted(CompleteBackend):
    killed_by = "test_malformed_members_go_to_the_dlq_and_stop_nothing"

    async def promote(self, lease, request):
        answer = await super().promote(lease, request)
        return answer if isinstance(answer, LeaseLost) else replace(answer, promoted=answer.promoted + answer.malformed)


class RequeuesACopy(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        before = list(self.dead_letters(queue))
        answer = await super().requeue_dead_letter(queue, entry_id, envelope, name)
        self.dead_letters(queue)[:] = before
        return answer


class RequeuesTwice(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        answer = await super().requeue_dead_letter(queue, entry_id, envelope, name)
        stream = self._store[queue].streams[StreamName.JOBS]
        stream.add(self._now_ms(), stream.entries[-1].fields)
        return answer


class RequeuesWithoutTheName(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        return await super().requeue_dead_letter(queue, entry_id, envelope, "")


class RequeuesAnEmptyName(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        answer = await super().requeue_dead_letter(queue, entry_id, envelope, name or "-")
        if answer and not name:
            self._store[queue].streams[StreamName.JOBS].entries[-1].fields["n"] = b""
        return answer


class RequeuesTheMember(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        member = next((e.fields["d"] for e in self.dead_letters(queue) if e.id == entry_id), envelope)
        return await super().requeue_dead_letter(queue, entry_id, member, name)


class RequeuesTheFirst(CompleteBackend):
    killed_by = "test_a_dead_letter_is_moved_to_the_stream_with_the_envelope_and_name_given"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        return await super().requeue_dead_letter(queue, self.dead_letters(queue)[0].id, envelope, name)


class RequeuesWhatHasGone(CompleteBackend):
    killed_by = "test_a_dead_letter_that_has_gone_is_not_moved"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        if not await super().requeue_dead_letter(queue, entry_id, envelope, name):
            self._store[queue].streams[StreamName.JOBS].add(self._now_ms(), {"d": envelope})
        return True


class SaysThatItRequeued(CompleteBackend):
    killed_by = "test_a_dead_letter_that_has_gone_is_not_moved"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        await super().requeue_dead_letter(queue, entry_id, envelope, name)
        return True


class LooksBeforeItRequeues(CompleteBackend):
    killed_by = "test_one_of_many_concurrent_requeues_moves_it"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        there = any(entry.id == entry_id for entry in self.dead_letters(queue))
        await asyncio.sleep(0)  # others have looked by now
        if there and not await super().requeue_dead_letter(queue, entry_id, envelope, name):
            self._store[queue].streams[StreamName.JOBS].add(self._now_ms(), {"d": envelope})
        return there


class RemovesBeforeItRequeues(CompleteBackend):
    killed_by = "test_a_requeue_that_is_cancelled_loses_nothing"

    async def requeue_dead_letter(self, queue, entry_id, envelope, name):
        before = list(self.dead_letters(queue))
        there = self.remove(queue, entry_id)
        await asyncio.sleep(0)  # where a failure loses it
        self.dead_letters(queue)[:] = before
        return there and await super().requeue_dead_letter(queue, entry_id, envelope, name)


class DeletesAll(CompleteBackend):
    killed_by = "test_dead_letters_are_deleted_and_counted"

    async def delete_dead_letters(self, queue, entry_ids):
        deleted = await super().delete_dead_letters(queue, entry_ids)
        self.dead_letters(queue).clear()
        return deleted


class DeletesUpToTheNewestOfThem(CompleteBackend):
    killed_by = "test_dead_letters_are_deleted_and_counted"

    async def delete_dead_letters(self, queue, entry_ids):
        ids = [entry.id for entry in self.dead_letters(queue)]
        last = max((ids.index(id) for id in entry_ids if id in ids), default=-1)
        await super().delete_dead_letters(queue, ids[: last + 1])
        return sum(id in ids for id in entry_ids)


class DeletesTheFirstOnly(CompleteBackend):
    killed_by = "test_dead_letters_are_deleted_and_counted"

    async def delete_dead_letters(self, queue, entry_ids):
        return await super().delete_dead_letters(queue, entry_ids[:1])


class CountsWhatItWasAskedToDelete(CompleteBackend):
    killed_by = "test_dead_letters_are_deleted_and_counted"

    async def delete_dead_letters(self, queue, entry_ids):
        await super().delete_dead_letters(queue, entry_ids)
        return len(entry_ids)


class SaysThatItDeletes(CompleteBackend):
    killed_by = "test_dead_letters_are_deleted_and_counted"

    async def delete_dead_letters(self, queue, entry_ids):
        ids = [entry.id for entry in self.dead_letters(queue)]
        return sum(id in ids for id in entry_ids)


class DeletesInAllQueues(CompleteBackend):
    killed_by = "test_queues_do_not_share_dead_letters"

    async def delete_dead_letters(self, queue, entry_ids):
        return sum([await super(DeletesInAllQueues, self).delete_dead_letters(q, entry_ids) for q in self._names()])

    def _names(self):
        return [name for name, _ in self._store.queues()]
