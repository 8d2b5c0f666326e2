"""Wrong with finding queues: another dialect of patterns, too few or too many queues."""

from __future__ import annotations

import re
from fnmatch import fnmatch, fnmatchcase, translate
from unicodedata import normalize

from promoter_core.spi import StreamName
from promoter_memory.backend import MemoryBackend

PAGE = 100


class Matches(MemoryBackend):
    """Another dialect. `matches(name, pattern)`."""

    async def find_queues(self, patterns):
        async for page in super().find_queues(["*"]):
            yield [name for name in page if any(self.matches(name, pattern) for pattern in patterns)]


class IsSqlLike(Matches):
    """`*` and `?` are put for `%` and `_`; those that are in a pattern already stay what they are in SQL."""

    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        like = "".join({"*": ".*", "%": ".*", "?": ".", "_": "."}.get(c, re.escape(c)) for c in pattern)
        return re.fullmatch(like, name, re.DOTALL) is not None


class UnderscoreIsAnyLetter(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("_", "?"))


class PercentIsAnything(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("%", "*"))


class IgnoresTheCaseOfPatterns(Matches):
    """`LIKE` of SQLite, `ILIKE`, `fnmatch` of some systems."""

    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name.lower(), pattern.lower())


class IsARegularExpression(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        try:
            return re.fullmatch(pattern.replace("*", ".*").replace("?", "."), name) is not None
        except re.error:
            return False


class ADotIsAnyLetter(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace(".", "?"))


class KnowsNoClasses(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("[", "[[]"))


class KnowsNoQuestionMark(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("?", "[?]"))


class KnowsNoNegation(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("[!", "[]!"))


class CaretNegates(Matches):
    """As in the globs of a server."""

    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern.replace("[^", "[!"))


class ABackslashEscapes(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, re.sub(r"\\(.)", lambda m: f"[{m[1]}]" if m[1] in "*?[" else m[1], pattern))


class AStarStopsAtASlash(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


class AQuestionMarkMayBeNothing(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("?", ""))


class AQuestionMarkIsAByte(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(name.encode().decode("latin-1"), pattern.encode().decode("latin-1"))


class NormalisesPatterns(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return fnmatchcase(normalize("NFC", name), normalize("NFC", pattern))


class AClassWithoutAnEndIsAnError(Matches):
    killed_by = "test_patterns_are_those_of_fnmatchcase"

    def matches(self, name, pattern):
        return pattern.count("[") <= pattern.count("]") and fnmatchcase(name, pattern)


class PatternsAreForTheBeginning(Matches):
    killed_by = "test_patterns_are_for_the_whole_name"

    def matches(self, name, pattern):
        return fnmatchcase(name, f"{pattern}*")


class PatternsAreForAnyPart(Matches):
    killed_by = "test_patterns_are_for_the_whole_name"

    def matches(self, name, pattern):
        return fnmatchcase(name, f"*{pattern}*")


class LooksForThePrefixOnly(Matches):
    """A scan by what the pattern begins with, and nobody looks at the rest."""

    killed_by = "test_patterns_are_for_the_whole_name"

    def matches(self, name, pattern):
        return name.startswith(re.split(r"[*?[]", pattern)[0])


class NeedsAPrefix(Matches):
    """A pattern that begins with a wildcard is looked for nowhere."""

    killed_by = "test_patterns_are_for_the_whole_name"

    def matches(self, name, pattern):
        return pattern[0] not in "*?[" and fnmatchcase(name, pattern)


class IgnoresCaseAtTheBeginning(Matches):
    killed_by = "test_patterns_are_for_the_whole_name"

    def matches(self, name, pattern):
        return fnmatch(name[:1].lower() + name[1:], pattern[:1].lower() + pattern[1:])


class DropsTheLastName(MemoryBackend):
    """A page is full, and the next begins after one that nobody has seen."""

    killed_by = "test_of_more_queues_than_a_page_all_are_found"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield page[: PAGE - 1]


class FindsAThousand(MemoryBackend):
    killed_by = "test_of_more_queues_than_a_page_all_are_found"

    async def find_queues(self, patterns):
        left = 1_000
        async for page in super().find_queues(patterns):
            yield page[:left]
            left = max(0, left - len(page))


class StopsAtAnEmptyPage(MemoryBackend):
    """A page in which nothing matches is taken for the end."""

    killed_by = "test_of_more_queues_than_a_page_all_are_found"

    async def find_queues(self, patterns):
        async for page in super().find_queues(["*"]):
            found = [name for name in page if any(fnmatchcase(name, pattern) for pattern in patterns)]
            if not found:
                return
            yield found


class FindsOneAPageAndPattern(MemoryBackend):
    killed_by = "test_of_more_queues_than_a_page_all_are_found"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield [name for p in patterns for name in [n for n in page if fnmatchcase(n, p)][:1]]


class TakesNoPatternForAnyPattern(MemoryBackend):
    killed_by = "test_no_pattern_finds_nothing"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns or ["*"]):
            yield page


class FindsIf(MemoryBackend):
    """Another idea of which queues there are. `there(name, q, now_ms)`."""

    async def find_queues(self, patterns):
        now_ms = self._now_ms()
        names = [name for name, q in self._store.queues() if self.there(name, q, now_ms)]
        yield [name for name in names if any(re.match(translate(pattern), name) for pattern in patterns)]


class FindsWhatWasEverLed(FindsIf):
    """An ended lock is a lock."""

    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q.depth or q.lock is not None


class FindsAllThatItHasHeardOf(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return True


class FindsWhatHasAStream(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q.depth or q.holder(now_ms) is not None or q.streams[StreamName.JOBS].entries


class FindsWhatHasMarkersOrCancelledJobs(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q._heap or q.holder(now_ms) is not None or q._markers


class FindsNoQueueWithoutJobs(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q.depth > 0


class FindsNoQueueWithoutALeader(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q.lock is not None and q.holder(now_ms) is not None


class FindsWhatIsDueSoon(FindsIf):
    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        head = q.head()
        return q.holder(now_ms) is not None or (head is not None and head.due_ms < now_ms + 10**9)


class FindsNoQueueThatIsLed(FindsIf):
    """It looks for work that nobody does."""

    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def there(self, name, q, now_ms):
        return q.depth and q.holder(now_ms) is None


class FindsItsOwnQueues(MemoryBackend):
    """A list that the process keeps of what it has written itself."""

    killed_by = "test_what_has_jobs_or_a_leader_is_found_and_nothing_else"

    def __init__(self, store):
        super().__init__(store)
        self._own = set()

    def _queue(self, queue):
        self._own.add(queue)
        return super()._queue(queue)

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield [name for name in page if name in self._own]


class CountsHowFarItHasCome(MemoryBackend):
    """LIMIT … OFFSET …, while queues go."""

    killed_by = "test_queues_that_go_while_others_are_sought_hide_none"

    async def find_queues(self, patterns):
        offset = 0
        while True:
            every = [name async for page in super().find_queues(patterns) for name in page]
            if not (page := sorted(every)[offset : offset + PAGE]):
                return
            yield page
            offset += PAGE


class EndsWhenAQueueGoes(MemoryBackend):
    """The cursor was a queue's own row."""

    killed_by = "test_queues_that_go_while_others_are_sought_hide_none"

    async def find_queues(self, patterns):
        async for page in super().find_queues(patterns):
            yield page
            if self._store[sorted(page)[0]].holder(self._now_ms()) is None:
                return


class KeepsAList(MemoryBackend):
    """Of the queues with jobs, beside the jobs: `change_jobs` does not know of it."""

    killed_by = "test_a_queue_whose_jobs_were_changed_is_found_while_one_waits"

    async def schedule(self, queue, jobs):
        self._store.groups.setdefault("listed", {})[queue] = 1
        return await super().schedule(queue, jobs)

    async def find_queues(self, patterns):
        listed = self._store.groups.get("listed", {})
        yield [name for name in listed if any(fnmatchcase(name, pattern) for pattern in patterns)]


class DropsAQueueWhoseJobWasRun(MemoryBackend):
    """From that list, whether or not a job is left, or found no room."""

    killed_by = "test_a_queue_whose_jobs_were_changed_is_found_while_one_waits"

    async def find_queues(self, patterns):
        changed = self._store.groups.get("changed", {})
        async for page in super().find_queues(patterns):
            yield [name for name in page if name not in changed]

    async def change_jobs(self, queue, changes):
        self._store.groups.setdefault("changed", {})[queue] = 1
        return await super().change_jobs(queue, changes)
