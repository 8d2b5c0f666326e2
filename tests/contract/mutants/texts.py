"""Wrong with text: what a column's collation, a driver, a key or a channel makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from unicodedata import normalize

from promoter_core.spi import CancelOutcome, Lease, LeaseHeld, Scheduled
from promoter_memory.backend import MemoryBackend


def cut(text, most_bytes):
    return text.encode("utf-8", "surrogateescape")[:most_bytes].decode("utf-8", "surrogateescape")


class FoldsIds(MemoryBackend):
    """Keeps something else in the place of an id."""

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, [replace(job, id=self.fold(job.id)) for job in jobs])
        return tuple(Scheduled(job.id, answer.created) for job, answer in zip(jobs, answers, strict=True))

    async def cancel(self, queue, ids):
        return await super().cancel(queue, [self.fold(id) for id in ids])


class IgnoresTheCaseOfIds(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return text.lower()


class NormalisesIds(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return normalize("NFC", text)


class TakesIdsForTheirCompatibilityForms(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return normalize("NFKC", text)


class PadsIds(FoldsIds):
    """CHAR(n): blanks at the end do not count."""

    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return text.rstrip(" ")


class StripsIds(FoldsIds):
    killed_by = "test_ids_that_look_alike_are_cancelled_apart"

    def fold(self, text):
        return text.strip()


class EndsIdsAtNul(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return text.partition("\0")[0] or text


class DropsNulFromIds(FoldsIds):
    """PostgreSQL's text has no NUL."""

    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return text.replace("\0", "")


class CutsIdsAt63(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return cut(text, 63)


class CutsIdsAt255(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return cut(text, 255)


class CutsIdsAt255Letters(FoldsIds):
    killed_by = "test_ids_that_look_alike_are_cancelled_apart"

    def fold(self, text):
        return text[:255]


class ReplacesWhatIsNoUtf8(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class KeepsThreeBytesOfALetter(FoldsIds):
    """MySQL's utf8."""

    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return re.sub("[\U00010000-\U0010ffff]", "\ufffd", text)


class TakesIdsForNumbers(FoldsIds):
    """A column of SQLite with the affinity of numbers."""

    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return str(int(text)) if text.isascii() and text.isdecimal() else text


class MakesKeysOfIds(FoldsIds):
    killed_by = "test_ids_that_look_alike_stay_apart"

    def fold(self, text):
        return re.sub(r"[^\w-]", "_", text)


class CancelsByLike(MemoryBackend):
    killed_by = "test_ids_that_look_alike_are_cancelled_apart"

    async def cancel(self, queue, ids):
        waiting = [job.id for _, _, job in self._store[queue]._heap if not job.gone]
        likes = [re.compile(re.escape(id).replace("%", ".*").replace("_", "."), re.DOTALL) for id in ids]
        matched = [next((w for w in waiting if like.fullmatch(w)), id) for like, id in zip(likes, ids, strict=True)]
        return await super().cancel(queue, matched)


class CancelsByGlob(MemoryBackend):
    killed_by = "test_ids_that_look_alike_are_cancelled_apart"

    async def cancel(self, queue, ids):
        outcomes = []
        for id in ids:
            waiting = [job.id for _, _, job in self._store[queue]._heap if not job.gone]
            found = next((w for w in waiting if fnmatchcase(w, id)), None)
            outcomes += await super().cancel(queue, [found]) if found else [CancelOutcome.NOT_FOUND]
        return tuple(outcomes)


class ChangesNames(MemoryBackend):
    async def schedule(self, queue, jobs):
        return await super().schedule(queue, [replace(job, name=self.change(job.name)) for job in jobs])


class NormalisesNames(ChangesNames):
    killed_by = "test_names_that_look_alike_come_back_exactly"

    def change(self, text):
        return normalize("NFC", text)


class StripsNames(ChangesNames):
    killed_by = "test_names_that_look_alike_come_back_exactly"

    def change(self, text):
        return text.strip()


class CutsNamesAt255(ChangesNames):
    killed_by = "test_names_that_look_alike_come_back_exactly"

    def change(self, text):
        return cut(text, 255)


class TakesNullForNoName(ChangesNames):
    killed_by = "test_names_that_look_alike_come_back_exactly"

    def change(self, text):
        return "" if text in ("null", "NULL", "None") else text


class EscapesNames(ChangesNames):
    killed_by = "test_names_that_look_alike_come_back_exactly"

    def change(self, text):
        return text.replace("'", "''")


class KeepsOneJobANameWithoutItsCase(MemoryBackend):
    """A unique index on what it takes for a job's whole content."""

    killed_by = "test_jobs_that_differ_by_a_names_looks_are_all_kept"

    async def schedule(self, queue, jobs):
        kept = {(job.id, job.name.lower(), job.envelope): job for job in jobs}
        await super().schedule(queue, tuple(kept.values()))
        return tuple(Scheduled(job.id, True) for job in jobs)


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
            answers.append(Scheduled(job.id, made))
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
