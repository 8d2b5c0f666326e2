"""Wrong in what a change does to a waiting job, or answers of it: moved, removed, run, replaced."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import (
    CHASQUIMQ,
    MAX_DUE_MS,
    ChangeKind,
    JobOutcome,
    Remove,
    Replace,
    Reschedule,
    RunNow,
    StoredJob,
    StreamName,
)
from promoter_memory.backend import MemoryBackend
from promoter_memory.jobs import carry_out
from promoter_memory.store import Pending

MISSING = (JobOutcome.NOT_FOUND, JobOutcome.ALREADY_PROMOTED)
CHUNK = 100


class Changes(MemoryBackend):
    """Other changes than those asked, or something after each. `before(q, change, now_ms)` gives the change."""

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            asked = self.before(q, change, now_ms)
            (outcome,) = await super().change_jobs(queue, [asked])
            self.after(q, change, outcome, now_ms)
            outcomes.append(self.word(change, outcome))
        return outcomes

    def before(self, q, change, now_ms):
        return change

    def after(self, q, change, outcome, now_ms):
        """By default nothing."""

    def word(self, change, outcome):
        return outcome


def id_of(change):
    """Of the job that is changed."""
    if isinstance(change, Replace):
        return change.request.id
    return change.job.id if isinstance(change.job, StoredJob) else change.job


# Moves


class MovesEarlierOnly(Changes):
    """ZADD LT."""

    killed_by = "test_a_job_is_moved_to_another_due_time"

    def before(self, q, change, now_ms):
        job = q.waiting(id_of(change))
        if isinstance(change, Reschedule) and job is not None and change.due_ms is not None:
            return replace(change, due_ms=min(change.due_ms, job.due_ms))
        return change


class LeavesTheOldOneToo(Changes):
    """Adds the job at the new time, and the old row stays."""

    killed_by = "test_a_job_is_moved_to_another_due_time"

    def after(self, q, change, outcome, now_ms):
        job = q.waiting(id_of(change))
        if isinstance(change, Reschedule) and job is not None:
            q.add(replace(job, due_ms=job.due_ms + 1, gone=False, earlier=None))


class SaysThatNothingMovedWhenTheTimeIsTheSame(Changes):
    """ZADD XX CH counts changes."""

    killed_by = "test_a_job_is_moved_to_another_due_time"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        return [
            JobOutcome.NOT_FOUND
            if isinstance(c, Reschedule) and (job := q.waiting(id_of(c))) and job.due_ms == c.due_ms
            else (await super(SaysThatNothingMovedWhenTheTimeIsTheSame, self).change_jobs(queue, [c]))[0]
            for c in changes
        ]


class CountsDelaysFromTheOldDueTime(Changes):
    killed_by = "test_a_delay_of_a_change_counts_from_the_stores_clock"

    def before(self, q, change, now_ms):
        job = q.waiting(id_of(change))
        if isinstance(change, Reschedule) and job is not None and change.delay_ms is not None:
            return replace(change, due_ms=job.due_ms + change.delay_ms, delay_ms=None)
        return change


class TakesNoDelayForNone(Changes):
    """`if change.delay_ms:`."""

    killed_by = "test_a_delay_of_a_change_counts_from_the_stores_clock"

    def before(self, q, change, now_ms):
        if isinstance(change, Reschedule) and change.delay_ms == 0:
            return replace(change, delay_ms=None, due_ms=MAX_DUE_MS)
        return change


class MovesIntoThePast(Changes):
    killed_by = "test_a_due_time_in_the_past_is_now_and_one_beyond_the_last_is_the_last"

    def after(self, q, change, outcome, now_ms):
        at_ms = getattr(getattr(change, "request", change), "due_ms", None)
        if outcome not in MISSING and at_ms is not None and at_ms < now_ms:
            q.move(q.waiting(id_of(change)), at_ms)


class MovesBeyondTheLastDueTime(Changes):
    killed_by = "test_a_due_time_in_the_past_is_now_and_one_beyond_the_last_is_the_last"

    def after(self, q, change, outcome, now_ms):
        at_ms = getattr(getattr(change, "request", change), "due_ms", None)
        if outcome not in MISSING and at_ms is not None and at_ms > MAX_DUE_MS:
            q.move(q.waiting(id_of(change)), at_ms)


class MovesByAddingAnew(Changes):
    """One field gets lost on the way, and has this value."""

    field: str
    value: object

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Reschedule) and outcome is JobOutcome.MOVED:
            job = q.waiting(id_of(change))
            setattr(job, self.field, self.value)


class AMovedJobLosesItsTrace(MovesByAddingAnew):
    killed_by = "test_a_moved_job_keeps_all_but_its_due_time"
    field, value = "traceparent", ""


class AMovedJobLosesItsName(MovesByAddingAnew):
    killed_by = "test_a_moved_job_keeps_all_but_its_due_time"
    field, value = "name", ""


class AMovedJobIsKeptForAnHour(MovesByAddingAnew):
    killed_by = "test_a_moved_job_keeps_all_but_its_due_time"
    field, value = "keep_id_ms", 3_600_000


class AMovedJobIsNotUnique(MovesByAddingAnew):
    killed_by = "test_a_moved_job_can_be_cancelled_and_its_id_is_taken"
    field, value = "unique", False


class AMovedJobIsInNoIndex(Changes):
    killed_by = "test_a_moved_job_can_be_cancelled_and_its_id_is_taken"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Reschedule):
            self._store.groups.setdefault("moved", {})[id_of(change)] = 1

    async def cancel(self, queue, ids):
        moved = self._store.groups.get("moved", {})
        return tuple(
            [JobOutcome.NOT_FOUND if id in moved else (await super(Changes, self).cancel(queue, [id]))[0] for id in ids]
        )


class AMovedJobIsPromotedAtBothTimes(Changes):
    killed_by = "test_a_moved_job_is_promoted_at_its_new_time_alone"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Reschedule) and change.delay_ms == 0 and outcome is JobOutcome.MOVED:
            q.add(replace(q.waiting(id_of(change)), gone=False, earlier=None))


# What does not wait


class SaysNotFoundOfPromotedJobs(Changes):
    killed_by = "test_a_change_of_what_does_not_wait_changes_nothing"

    def word(self, change, outcome):
        return JobOutcome.NOT_FOUND if outcome in MISSING else outcome


class SaysAlreadyPromotedOfAll(Changes):
    killed_by = "test_a_change_of_what_does_not_wait_changes_nothing"

    def word(self, change, outcome):
        return JobOutcome.ALREADY_PROMOTED if outcome in MISSING else outcome


class RunsWhatWasShown(Changes):
    """A `StoredJob` has its envelope with it: so it is appended without a look."""

    killed_by = "test_a_change_of_what_does_not_wait_changes_nothing"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and isinstance(change.job, StoredJob) and outcome in MISSING:
            fields = CHASQUIMQ.entry_fields(change.job.envelope, change.job.name)
            q.streams[StreamName.JOBS].add(now_ms, fields)


class BringsBackWhatWasShown(Changes):
    """ZADD without XX."""

    killed_by = "test_a_change_of_what_does_not_wait_changes_nothing"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Reschedule) and isinstance(change.job, StoredJob) and outcome in MISSING:
            q.add(Pending(change.job.id, change.job.name, change.job.envelope, now_ms))


class FreesIdsThatDoNotWait(Changes):
    killed_by = "test_a_change_of_what_does_not_wait_changes_nothing"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Remove):
            q._markers.pop(id_of(change), None)


# Removed


class RemovesAndKeepsTheId(Changes):
    killed_by = "test_a_removed_job_is_as_one_that_was_cancelled"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Remove) and outcome is JobOutcome.REMOVED:
            q.remember(id_of(change), now_ms + 3_600_000)


class RemovesByMemberAlone(Changes):
    """By handle it takes the member out, and leaves the index and the marker."""

    killed_by = "test_a_removed_job_is_as_one_that_was_cancelled"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, Remove) and isinstance(change.job, StoredJob) and outcome is JobOutcome.REMOVED:
            q.remember(id_of(change), now_ms + 3_600_000)


class GroupsChangesByKind(MemoryBackend):
    """One statement for each kind, and the answers in the order of the statements."""

    killed_by = "test_many_changes_of_one_call_are_answered_in_their_order"

    async def change_jobs(self, queue, changes):
        return await super().change_jobs(queue, sorted(changes, key=lambda change: type(change).__name__))


class RunsChangesByKind(MemoryBackend):
    """One statement for each kind; the answers are put in order, what was done is not."""

    killed_by = "test_changes_of_one_job_take_effect_in_their_order"

    async def change_jobs(self, queue, changes):
        order = sorted(range(len(changes)), key=lambda i: type(changes[i]).__name__)
        outcomes = dict(zip(order, await super().change_jobs(queue, [changes[i] for i in order]), strict=True))
        return [outcomes[i] for i in range(len(changes))]


class AnswersTheFirstChunk(MemoryBackend):
    """The rest is said to be like it."""

    killed_by = "test_many_changes_of_one_call_are_answered_in_their_order"

    async def change_jobs(self, queue, changes):
        outcomes = await super().change_jobs(queue, changes)
        return [outcomes[i % CHUNK] for i in range(len(changes))]


class LooksAllUpFirst(MemoryBackend):
    """The jobs of all changes are looked up, and then they are changed."""

    killed_by = "test_changes_of_one_job_take_effect_in_their_order"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        found = [q.waiting(id_of(change)) for change in changes]
        return [
            JobOutcome.REMOVED if job is not None and isinstance(c, Remove) and job.gone else carry_out(q, c, now_ms)
            for c, job in zip(changes, found, strict=True)
        ]


# Handles


class ChangesByIdAlone(Changes):
    """A `StoredJob` is its id."""

    killed_by = "test_a_stored_job_finds_itself_among_jobs_with_its_id"

    def before(self, q, change, now_ms):
        return change if isinstance(change, Replace) else replace(change, job=id_of(change))


class TakesTheNextOneForIt(ChangesByIdAlone):
    killed_by = "test_a_stored_job_is_not_the_next_one_with_its_id"


class HandlesAreDueTimes(MemoryBackend):
    """The handle holds where the job stood, and it is not found when it has moved."""

    killed_by = "test_a_stored_job_finds_itself_among_jobs_with_its_id"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            which = getattr(change, "job", None)
            stale = isinstance(which, StoredJob) and not any(
                job.due_ms == which.due_ms for job in q.all_waiting(which.id) if b"%d" % job.number == which.handle
            )
            outcomes += [JobOutcome.NOT_FOUND] if stale else await super().change_jobs(queue, [change])
        return outcomes


class HandlesOfAProcess(HandlesAreDueTimes):
    killed_by = "test_a_stored_job_of_another_process_is_as_good"


class FoldsTheCaseOfIds(Changes):
    killed_by = "test_ids_that_look_alike_are_changed_apart"

    def before(self, q, change, now_ms):
        id = id_of(change)
        alike = next((other for other in q._index if other.casefold() == id.casefold() and q.waiting(other)), id)
        return replace(change, job=alike) if isinstance(change, RunNow) else change


class LeavesTheIndex(Changes):
    killed_by = "test_nothing_in_the_store_is_named_after_a_job_that_was_changed"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.PROMOTED:
            q._index.setdefault(id_of(change), Pending(id_of(change), "", b"", 0, gone=True))


class Silent(MemoryBackend):
    """Some changes wake nobody. `silent(change)`."""

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        outcomes = []
        for change in changes:
            if self.silent(q, change):
                outcomes.append(carry_out(q, change, now_ms))
            else:
                outcomes += await super().change_jobs(queue, [change])
        return outcomes


class WakesNobody(Silent):
    killed_by = "test_a_change_of_the_head_ends_a_wait_of_another_process"

    def silent(self, q, change):
        return True


class WakesForEarlierHeadsOnly(MemoryBackend):
    """The due time of the head is compared, and a head that has gone is none that is earlier."""

    killed_by = "test_a_change_of_the_head_ends_a_wait_of_another_process"

    async def change_jobs(self, queue, changes):
        q, now_ms = self._queue(queue)
        before = head.due_ms if (head := q.head()) else MAX_DUE_MS
        outcomes = [carry_out(q, change, now_ms) for change in changes]
        if (head := q.head()) and head.due_ms < before:
            self._store.flags.set(ChangeKind.JOBS, queue)
        return outcomes


class WakesNobodyWhenTheStreamIsFull(Silent):
    killed_by = "test_a_job_that_is_run_into_a_full_stream_is_a_head_that_ends_a_wait"

    def silent(self, q, change):
        return isinstance(change, RunNow)
