"""Wrong with the text of ids and names: what a column's collation or a driver makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from unicodedata import normalize

from promoter_core.spi import JobOutcome, Scheduled
from promoter_memory.backend import MemoryBackend


def cut(text, most_bytes):
    return text.encode("utf-8", "surrogateescape")[:most_bytes].decode("utf-8", "surrogateescape")


class FoldsIds(MemoryBackend):
    """Keeps something else in the place of an id."""

    async def schedule(self, queue, jobs):
        answers = await super().schedule(queue, [replace(job, id=self.fold(job.id)) for job in jobs])
        return tuple(Scheduled(job.id, answer.outcome) for job, answer in zip(jobs, answers, strict=True))

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
            outcomes += await super().cancel(queue, [found]) if found else [JobOutcome.NOT_FOUND]
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
        return tuple(Scheduled(job.id) for job in jobs)
