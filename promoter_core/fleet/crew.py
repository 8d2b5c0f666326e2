"""`Crew`: the machines of the queues that this process leads or tries to, served in turn on one backend."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from promoter_core.actions import Action, Done, Failed, Lock, Outcome, Promote, Stop, Unlock, Wait, Waited
from promoter_core.contracts import Clock
from promoter_core.doing import as_backend_error, do_alone, guarded, release
from promoter_core.errors import BackendError, PermanentError
from promoter_core.fleet.turns import AT_ONCE, Line, Turns, deaf, some
from promoter_core.machine import Machine, State
from promoter_core.model import Changes, Lease, LeaseLost, Promotion, Renewal, Wake
from promoter_core.reports import Reporter
from promoter_core.settings import PromoterSettings

log = logging.getLogger("promoter.fleet")

RENEW = 0.3  # of the lease, between renewals
RENEWED_AT_ONCE = 500  # leases by one call; the queues are served between the calls
POLLS_A_SECOND = 1_000
RELEASED_AT_ONCE = 100  # locks, at the end


class Crew:
    """`ended` is called with each queue whose machine has stopped, and with its error, if that is why."""

    def __init__(
        self,
        backend: Any,
        settings: PromoterSettings,
        reporter: Reporter,
        clock: Clock,
        ended: Callable[[str, PermanentError | None], None],
        *,
        until_idle: bool,
    ) -> None:
        self.lines: dict[str, Line] = {}
        self.renew_s = 0.0  # when the leases are renewed next, all of them at once
        self._backend = backend
        self._settings = settings
        self._reporter = reporter
        self._clock = clock
        self._ended = ended
        self._until_idle = until_idle
        self._turns = Turns()
        self._woken: deque[Line] = deque()  # something changed while they waited
        self._freed: deque[Line] = deque()  # followers, whose lock may have been released
        self._renewing: deque[Line] = deque()  # whose leases are still to be renewed this time
        self.steps = 0  # that have gone well
        self.ends = False  # the locks are being released

    @property
    def busy(self) -> bool:
        """Somebody is to be served now."""
        return bool(self._turns or self._woken or self._freed)

    @property
    def room(self) -> int:
        """How many queues are to be handed over before the next round trip."""
        return self._turns.room

    @property
    def lock_room(self) -> int:
        """How many are to be taken over."""
        return self._turns.lock_room

    @property
    def renews(self) -> bool:
        """Leases are to be renewed now."""
        return bool(self._renewing) or self._clock.monotonic() >= self.renew_s

    def next_s(self) -> float:
        """When something is to be done, if nothing changes before."""
        due_s = self._turns.next_s()
        renew_s = float("-inf") if self._renewing else self.renew_s
        return renew_s if due_s is None else min(due_s, renew_s)

    def lead(self, queue: str) -> None:
        """Try to lead the queue from now on."""
        settings = replace(self._settings, queue=queue)
        machine = Machine(
            settings,
            fused=self._backend.capabilities.fused,
            want_jobs=self._reporter.wants_jobs,
            want_traces=self._reporter.wants_traces,
            until_idle=self._until_idle,
            in_fleet=True,
        )
        now_s = self._clock.monotonic()
        line = self.lines[queue] = Line(settings, machine, machine.start(now_s).action, busy_s=now_s)
        self._turns.stand(line)

    def retire(self, queue: str) -> None:
        """Finish the step under way and release the queue's lock."""
        line = self.lines[queue]
        line.handed_over = True
        line.machine.shutdown()
        if line.due_s is not None:
            line.due_s = None
            self._handle(line, Waited(False), self._clock.monotonic())

    def heard(self, changes: Changes) -> None:
        """Have the waits end of the queues that have changed."""
        for line in self._told_of(changes):
            self._poke(line)
        for line in self.lines.values() if changes.everything else ():
            self._poke(line)

    def _told_of(self, changes: Changes) -> Iterable[Line]:
        for queues, state in ((changes.sets, State.LEADER), (changes.locks, State.FOLLOWER)):
            for queue in queues:
                line = self.lines.get(queue)
                if line is not None and line.machine.state is state:
                    yield line

    def _poke(self, line: Line) -> None:
        """Something changed: its wait ends when it is its turn or, when it is deaf, once it listens."""
        if not line.changed:
            line.changed = True
            if line.due_s is not None and not deaf(line):
                (self._freed if line.machine.state is State.FOLLOWER else self._woken).append(line)

    def pass_time(self) -> None:
        """End the waits whose time is up, and those of queues that have changed: as many as there is room for."""
        now_s = self._clock.monotonic()
        for line in self._turns.due(now_s):
            if (wait := line.machine.wait_on(now_s)) is not None:  # it was renewed with all the others
                line.action = wait
                self._turns.wait(line, now_s + wait.seconds)
            else:
                self._handle(line, Waited(False), now_s)
        for line in some(self._freed, self._turns.lock_room) + some(self._woken, self._turns.room):
            if line.due_s is not None and line.changed and not deaf(line):
                line.due_s = None
                self._handle(line, Waited(True), now_s)

    async def round(self) -> None:
        """One step for each line whose turn it is, those of a kind in one round trip."""
        locks: list[Line] = []
        promotes: list[Line] = []
        alone: list[Line] = []
        for line in self._turns.round(RELEASED_AT_ONCE if self.ends else AT_ONCE):
            match line.action:
                case Lock():
                    locks.append(line)
                case Promote():
                    promotes.append(line)
                case _:
                    alone.append(line)
        await asyncio.gather(self._ticks(locks, promotes), *map(self._alone, alone))

    async def _ticks(self, locks: list[Line], promotes: list[Line]) -> None:
        s = self._settings
        if locks:
            await self._together(locks, self._backend.lock_many, [x.queue for x in locks], s.holder_id, s.lock_ttl_ms)
        if promotes:
            asked = [(x.action.lease, x.action.request) for x in promotes if isinstance(x.action, Promote)]
            await self._together(promotes, self._backend.promote_many, asked)

    async def _alone(self, line: Line) -> None:
        outcome = await guarded(do_alone(self._backend, line.action, line.settings))
        self._handle(line, outcome, self._clock.monotonic())

    async def _together(self, lines: list[Line], call: Any, *args: Any) -> None:
        began_s = self._clock.monotonic()
        for line in lines:
            line.changed = False
            line.machine.started(began_s)
        try:
            answers: Sequence[Any] = await call(*args)
        except Exception as exc:
            answers = [as_backend_error(exc)] * len(lines)
        now_s = self._clock.monotonic()
        for line, answer in zip(lines, answers, strict=True):
            self._handle(line, Failed(answer) if isinstance(answer, BackendError) else answer, now_s)

    async def renew(self) -> None:
        """Renew the leases of the queues that are led, before their machines would, and act on what that shows.

        Each call renews some. A change of which no push has come is noticed here, so it waits for one renewal at most.
        """
        asked_s = self._clock.monotonic()
        if not self._renewing:
            self.renew_s = asked_s + RENEW * self._settings.lock_ttl_ms / 1000
            self._renewing.extend(self.lines.values())
        leading = [line for line in some(self._renewing, RENEWED_AT_ONCE) if line.machine.state is State.LEADER]
        if not leading:
            return
        try:
            answers = await self._backend.renew_many([line.machine.lease for line in leading])
        except BackendError as exc:
            log.debug("the leases could not be renewed together: %s", exc)  # each machine will, or will say why not
            self._renewing.clear()
            return
        now_s = self._clock.monotonic()
        for line, answer in zip(leading, answers, strict=True):
            if isinstance(answer, Renewal):
                self._renewed(line, answer, asked_s, now_s)
            elif isinstance(answer, LeaseLost):
                self._poke(line)  # its next tick will find that the lease is lost
            else:
                log.debug("queue %r: the lease could not be renewed: %s", line.queue, answer)

    def _renewed(self, line: Line, renewal: Renewal, asked_s: float, now_s: float) -> None:
        self._reporter.seen(line.queue)
        wait = line.machine.renewed(renewal, asked_s, now_s)
        if renewal.due:
            self._poke(line)
        elif wait is not None:
            line.action = wait
            self._turns.wait(line, now_s + wait.seconds)

    async def release(self) -> None:
        """After a cancellation, or a round that does not end: release what may be held while that goes well."""
        lines, now_s = list(self.lines.values()), self._clock.monotonic()
        self.lines.clear()
        held: list[tuple[Line, Unlock]] = []
        for line in lines:
            decision = line.machine.abandon(now_s)
            self._reporter.report(line.queue, decision)
            if isinstance(decision.action, Unlock):
                held.append((line, decision.action))
        outcomes: list[Outcome] = []
        while len(outcomes) < len(held):
            batch = held[len(outcomes) : len(outcomes) + RELEASED_AT_ONCE]
            calls = (release(self._backend, unlock, line.settings) for line, unlock in batch)
            done = await asyncio.gather(*calls)
            if all(isinstance(outcome, Failed) for outcome in done):
                done += done[:1] * (len(held) - len(outcomes) - len(done))  # the others would have to wait in vain
            outcomes += done
        now_s = self._clock.monotonic()
        for (line, _), outcome in zip(held, outcomes, strict=True):
            self._reporter.report(line.queue, line.machine.handle(outcome, now_s))
        if (failed := sum(isinstance(outcome, Failed) for outcome in outcomes)) > 1:
            log.warning("%d locks in all could not be released", failed)

    def _handle(self, line: Line, outcome: Outcome, now_s: float) -> None:
        self.steps += not isinstance(outcome, Failed | Waited)
        self._reporter.outcome(line.queue, outcome)
        if isinstance(outcome, Promotion) and (outcome.promoted or outcome.depth):
            line.busy_s = now_s
        line.machine.poll_s = self._poll_s()
        decision = line.machine.handle(outcome, now_s)
        self._reporter.report(line.queue, decision)
        promotes = isinstance(decision.action, Promote)
        drains = promotes and isinstance(outcome, Promotion | Done)
        self._place(line, decision.action, now_s, drains=drains, fresh=promotes and isinstance(outcome, Lease))

    def _poll_s(self) -> float | None:
        """Where queues are polled, longer the more there are, so that all of them are POLLS_A_SECOND looks at most."""
        if self._backend.capabilities.wake is Wake.ANY_WRITE:
            return None
        return max(self._settings.poll_interval_ms / 1000, len(self.lines) / POLLS_A_SECOND)

    def _place(self, line: Line, action: Action, now_s: float, *, drains: bool, fresh: bool) -> None:
        line.action = action
        if isinstance(action, Stop):
            del self.lines[line.queue]
            self._reporter.stopped(line.queue, action.error)
            self._ended(line.queue, action.error)
        elif not isinstance(action, Wait):
            self._turns.stand(line, drains=drains, fresh=fresh)
        elif line.changed and not action.deaf:
            self._handle(line, Waited(True), now_s)
        else:
            self._turns.wait(line, now_s + action.seconds)
