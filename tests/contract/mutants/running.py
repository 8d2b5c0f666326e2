"""Wrong in promoting a job at once."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import CHASQUIMQ, JobOutcome, RunNow, StreamEntry, StreamName, to_bytes
from promoter_memory.backend import MemoryBackend
from promoter_memory.jobs import add_event
from tests.contract.mutants.changing import Changes, id_of


class NeedsTheLock(Changes):
    """Nothing is run while another leads, or nobody."""

    killed_by = "test_a_job_is_run_now"

    def before(self, q, change, now_ms):
        return replace(change, max_stream_len=0) if isinstance(change, RunNow) and not q.holder(now_ms) else change


class TakesTheLock(Changes):
    """To be the only one that promotes, it drives the leader out."""

    killed_by = "test_a_job_is_run_now"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow):
            q.lock = None


class MakesItDueAndNoMore(Changes):
    """The promoter does the rest, later."""

    killed_by = "test_a_job_is_run_now"

    def before(self, q, change, now_ms):
        return replace(change, max_stream_len=0) if isinstance(change, RunNow) else change

    def word(self, change, outcome):
        return JobOutcome.PROMOTED if outcome is JobOutcome.MOVED else outcome


class RunsAllThatIsDue(MemoryBackend):
    """Makes it due, and promotes what is due."""

    killed_by = "test_a_job_is_run_now"

    async def change_jobs(self, queue, changes):
        outcomes = await super().change_jobs(queue, changes)
        q, now_ms = self._queue(queue)
        while (head := q.head()) and head.due_ms <= now_ms and JobOutcome.PROMOTED in outcomes:
            q.streams[StreamName.JOBS].add(now_ms, CHASQUIMQ.entry_fields(head.envelope, head.name))
            q.pop()
        return outcomes


class Writes(Changes):
    """Something else into the streams. `entry(e, change)` and `event(e)` give the last ones anew, or None."""

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.PROMOTED:
            for name, written in ((StreamName.JOBS, self.entry), (StreamName.EVENTS, self.event)):
                entries = q.streams[name].entries
                if name is StreamName.JOBS or change.events:
                    last = entries.pop()
                    if (fields := written(dict(last.fields))) is not None:
                        entries.append(StreamEntry(last.id, fields))

    def entry(self, fields):
        return fields

    def event(self, fields):
        return fields


class DropsTheNameOfTheEntry(Writes):
    killed_by = "test_a_job_is_run_now"

    def entry(self, fields):
        return {"d": fields["d"]}


class WritesNoEvent(Writes):
    killed_by = "test_its_event_is_that_of_a_promotion"

    def event(self, fields):
        return None


class WritesAnotherEvent(Writes):
    killed_by = "test_its_event_is_that_of_a_promotion"

    def event(self, fields):
        return fields | {"e": b"promoted"}


class ItsEventHasAnEmptyName(Writes):
    killed_by = "test_its_event_is_that_of_a_promotion"

    def event(self, fields):
        return {"n": b""} | fields


class ItsEventHasTheDueTime(Writes):
    killed_by = "test_its_event_is_that_of_a_promotion"

    def event(self, fields):
        return fields | {"ts": b"4000000000000"}


class WritesAnEventAlways(Changes):
    killed_by = "test_its_event_is_that_of_a_promotion"

    def before(self, q, change, now_ms):
        return replace(change, events=True) if isinstance(change, RunNow) else change


class WritesIdsAsText(Writes):
    killed_by = "test_every_id_and_name_goes_as_it_is"

    def event(self, fields):
        return fields | {"id": to_bytes(fields["id"].decode("utf-8", "replace"))}


class AddsInFrontOfTheStream(Changes):
    """With an id of its own numbering: who reads on after the last entry never sees it."""

    killed_by = "test_entries_of_both_ways_are_in_one_order"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.PROMOTED:
            entries = q.streams[StreamName.JOBS].entries
            entries.insert(0, StreamEntry(f"1-{len(entries)}", entries.pop().fields))


class OverfillsTheStream(Changes):
    killed_by = "test_a_job_that_finds_no_room_is_due_now"

    def before(self, q, change, now_ms):
        return replace(change, max_stream_len=2**53) if isinstance(change, RunNow) else change


class TakesNoRoomForNoBound(Changes):
    """`if change.max_stream_len:`."""

    killed_by = "test_a_job_that_finds_no_room_is_due_now"

    def before(self, q, change, now_ms):
        none = isinstance(change, RunNow) and change.max_stream_len == 0
        return replace(change, max_stream_len=2**53) if none else change


class LeavesItWhereItIsWhenThereIsNoRoom(MemoryBackend):
    killed_by = "test_a_job_that_finds_no_room_is_due_now"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            job = q.waiting(id_of(change)) if isinstance(change, RunNow) else None
            due_ms = job and job.due_ms
            (outcome,) = await super().change_jobs(queue, [change])
            if job is not None and outcome is JobOutcome.MOVED:
                q.move(job, due_ms)
            outcomes.append(outcome)
        return outcomes


class AFullStreamHasItsEvent(Changes):
    killed_by = "test_a_job_that_finds_no_room_is_due_now"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.MOVED:
            add_event(q, id_of(change), "", now_ms, now_ms, "", "")


class FillsOneBeyondTheBound(Changes):
    killed_by = "test_the_stream_is_filled_to_its_bound_and_not_beyond"

    def before(self, q, change, now_ms):
        return replace(change, max_stream_len=change.max_stream_len + 1) if isinstance(change, RunNow) else change


class LooksForRoomOncePerCall(MemoryBackend):
    killed_by = "test_the_stream_is_filled_to_its_bound_and_not_beyond"

    async def change_jobs(self, queue, changes):
        length = len(self._store[queue].streams[StreamName.JOBS].entries)
        return await super().change_jobs(
            queue,
            [
                replace(c, max_stream_len=2**53) if isinstance(c, RunNow) and length < c.max_stream_len else c
                for c in changes
            ],
        )


class AnOverdueJobIsDueAnew(Changes):
    """Its lateness is hidden."""

    killed_by = "test_an_overdue_job_that_finds_no_room_stays_due"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.MOVED:
            q.move(q.waiting(id_of(change)), now_ms)


class TrimsNoEvents(Changes):
    killed_by = "test_its_events_are_trimmed"

    def before(self, q, change, now_ms):
        return replace(change, events_max_stream_len=2**53) if isinstance(change, RunNow) else change


class TrimsTheJobs(Changes):
    """The wrong stream, or the wrong number."""

    killed_by = "test_its_events_are_trimmed"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow):
            q.streams[StreamName.JOBS].trim(change.events_max_stream_len)


class FreesItsId(Changes):
    killed_by = "test_its_id_stays_taken"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow):
            q._markers.pop(id_of(change), None)


class KeepsEveryIdThatIsRun(Changes):
    killed_by = "test_its_id_stays_taken"

    def after(self, q, change, outcome, now_ms):
        if isinstance(change, RunNow) and outcome is JobOutcome.PROMOTED:
            q.remember(id_of(change), now_ms + 3_600_000)


class KeepsItsIdFromTheDueTime(MemoryBackend):
    killed_by = "test_its_id_is_taken_from_now_and_not_from_its_due_time"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            job = q.waiting(id_of(change))
            due_ms = job and job.due_ms
            outcomes += await super().change_jobs(queue, [change])
            if job is not None and job.id in q._markers:
                q.remember(job.id, due_ms + job.keep_id_ms)
        return outcomes


class EndsItsTrace(Writes):
    killed_by = "test_a_trace_context_goes_with_its_job"

    def entry(self, fields):
        return {field: value for field, value in fields.items() if field != "traceparent"}


class LeavesItsTrace(MemoryBackend):
    """In the store, by its id: the next job with this id has it."""

    killed_by = "test_a_trace_context_goes_with_its_job"

    async def change_jobs(self, queue, changes):
        for change in changes:
            if (job := self._store[queue].waiting(id_of(change))) is not None:
                self._store.groups.setdefault("traces", {})[job.id] = job.traceparent
        return await super().change_jobs(queue, changes)

    async def schedule(self, queue, jobs):
        traces = self._store.groups.get("traces", {})
        return await super().schedule(
            queue, [replace(job, traceparent=job.traceparent or traces.get(job.id, "")) for job in jobs]
        )


class RunsAllOfAnId(Changes):
    killed_by = "test_of_jobs_with_one_id_one_is_run_at_a_time"

    def after(self, q, change, outcome, now_ms):
        for job in list(q.all_waiting(id_of(change))) if isinstance(change, RunNow) else ():
            q.streams[StreamName.JOBS].add(now_ms, CHASQUIMQ.entry_fields(job.envelope, job.name))
            q.cancel(job)


class RunsByWhereItStood(MemoryBackend):
    """A `StoredJob` that has moved since is not found."""

    killed_by = "test_a_job_that_has_just_moved_is_run"

    async def change_jobs(self, queue, changes):
        q, _ = self._queue(queue)
        outcomes = []
        for change in changes:
            shown = getattr(change, "job", None)
            job = q.waiting(id_of(change))
            moved = job is not None and hasattr(shown, "handle") and shown.due_ms != job.due_ms
            outcomes += [JobOutcome.NOT_FOUND] if moved else await super().change_jobs(queue, [change])
        return outcomes
