"""Wrong with holders, queues, groups and members whose names look alike."""

from __future__ import annotations

import re
from dataclasses import replace
from unicodedata import normalize

from promoter_core.spi import Lease, LeaseHeld, Scheduled
from promoter_memory.backend import MemoryBackend
from tests.contract.mutants.honest import outcome_if
from tests.contract.mutants.texts import cut


class FoldsHolders(MemoryBackend):
    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, self.fold(holder), ttl_ms)
        return Lease(queue, holder, ttl_ms) if isinstance(answer, Lease) else answer

    async def unlock(self, lease):
        return await super().unlock(replace(lease, holder=self.fold(lease.holder)))

    async def promote(self, lease, request):
        return await super().promote(replace(lease, holder=self.fold(lease.holder)), request)


class IgnoresTheCaseOfHolders(FoldsHolders):
    killed_by = "test_holders_that_look_alike_are_others"

    def fold(self, text):
        return text.casefold()


class CutsHoldersAt63(FoldsHolders):
    killed_by = "test_holders_that_look_alike_are_others"

    def fold(self, text):
        return cut(text, 63)


class PadsHolders(FoldsHolders):
    killed_by = "test_holders_that_look_alike_are_others"

    def fold(self, text):
        return text.rstrip(" ")


class NormalisesHolders(FoldsHolders):
    killed_by = "test_holders_that_look_alike_are_others"

    def fold(self, text):
        return normalize("NFC", text)


class NamesTheHolderInAscii(MemoryBackend):
    killed_by = "test_holders_that_look_alike_are_others"

    async def lock(self, queue, holder, ttl_ms):
        answer = await super().lock(queue, holder, ttl_ms)
        if not isinstance(answer, LeaseHeld):
            return answer
        return replace(answer, holder=answer.holder.encode("ascii", "replace").decode())


class UnlocksWithoutCase(MemoryBackend):
    killed_by = "test_holders_that_look_alike_are_others"

    async def unlock(self, lease):
        held = self._store[lease.queue].lock
        same = held is not None and held[0].lower() == lease.holder.lower()
        return await super().unlock(replace(lease, holder=held[0] if same else lease.holder))


class FoldsQueues(MemoryBackend):
    def _queue(self, queue):
        return super()._queue(self.fold(queue))


class IgnoresTheCaseOfQueues(FoldsQueues):
    killed_by = "test_queues_that_look_alike_are_others"

    def fold(self, text):
        return text.lower()


class MakesTablesOfQueues(FoldsQueues):
    killed_by = "test_queues_that_look_alike_are_others"

    def fold(self, text):
        return re.sub(r"[.\-/:]", "_", text)


class CutsQueuesAt63(FoldsQueues):
    killed_by = "test_queues_that_look_alike_are_others"

    def fold(self, text):
        return cut(text, 63)


class NormalisesQueues(FoldsQueues):
    killed_by = "test_queues_that_look_alike_are_others"

    def fold(self, text):
        return normalize("NFC", text)


class StripsQueues(FoldsQueues):
    killed_by = "test_queues_that_look_alike_are_others"

    def fold(self, text):
        return text.strip()


class JoinsQueueAndId(MemoryBackend):
    """One table of markers for all queues."""

    killed_by = "test_a_queue_and_an_id_are_two_texts"
    between = ":"

    async def schedule(self, queue, jobs):
        taken = self._store.groups.setdefault("keys", {})
        answers = []
        for job in jobs:
            key = f"{queue}{self.between}{job.id}"
            made = not (job.unique and key in taken)
            answers.append(Scheduled(job.id, outcome_if(made)))
            if made:
                await super().schedule(queue, [job])
                taken[key] = 1
        return tuple(answers)

    async def cancel(self, queue, ids):
        for id in ids:
            self._store.groups.setdefault("keys", {}).pop(f"{queue}{self.between}{id}", None)
        return await super().cancel(queue, ids)


class JoinsQueueAndIdByADash(JoinsQueueAndId):
    killed_by = "test_a_queue_and_an_id_are_two_texts"
    between = "-"


class JoinsQueueAndIdByNothing(JoinsQueueAndId):
    killed_by = "test_a_queue_and_an_id_are_two_texts"
    between = ""


class FindsNamesInLowerCase(MemoryBackend):
    killed_by = "test_queues_that_look_alike_are_found_by_their_names"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield [name.lower() for name in page]


class FindsOneOfThoseThatLookAlike(MemoryBackend):
    killed_by = "test_queues_that_look_alike_are_found_by_their_names"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield list({name.casefold(): name for name in page}.values())


class AnnouncesNormalisedNames(MemoryBackend):
    killed_by = "test_feeds_name_queues_that_look_alike"

    async def announce(self, queues):
        await super().announce([normalize("NFC", queue) for queue in queues])


class AnnouncesWithoutBlanks(MemoryBackend):
    """Names in one message, with blanks between."""

    killed_by = "test_feeds_name_queues_that_look_alike"

    async def announce(self, queues):
        await super().announce(" ".join(queues).split())


class AnnouncesOnAChannelOf63Bytes(MemoryBackend):
    """PostgreSQL cuts the names of channels, and who listens compares the whole name."""

    killed_by = "test_waits_for_queues_that_look_alike_all_end"

    def _schedule(self, q, queue, job, now_ms):
        return super()._schedule(q, cut(queue, 63), job, now_ms)


class IgnoresTheCaseOfMembers(MemoryBackend):
    killed_by = "test_members_and_groups_that_look_alike_are_others"

    async def join_group(self, group, member, ttl_ms):
        return await super().join_group(group, member.lower(), ttl_ms)


class IgnoresTheCaseOfGroups(MemoryBackend):
    killed_by = "test_members_and_groups_that_look_alike_are_others"

    async def join_group(self, group, member, ttl_ms):
        return await super().join_group(group.lower(), member, ttl_ms)


class JoinsMembersToOneText(MemoryBackend):
    """A list in one column, with commas or blanks between."""

    killed_by = "test_members_and_groups_that_look_alike_are_others"

    async def join_group(self, group, member, ttl_ms):
        members = await super().join_group(group, member, ttl_ms)
        return replace(members, names=frozenset(" ".join(members.names).split(" ")))
