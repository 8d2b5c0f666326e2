"""`MachinePool`: the machines of the queues that this process leads or follows, served in turn on one backend."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from promoter_core.engine.actions import (
    Action,
    Done,
    Failed,
    Lock,
    Outcome,
    Promote,
    Reason,
    Stop,
    Unlock,
    Wait,
    Waited,
)
from promoter_core.engine.machine import Machine, State
from promoter_core.runner.execute import as_backend_error, as_outcome, execute, release
from promoter_core.runner.fleet.round_robin import AT_ONCE, RoundRobin, ServedQueue, interruptible, take
from promoter_core.runner.reporter import Reporter
from promoter_core.settings import PromoterSettings
from promoter_core.spi.clock import Clock
from promoter_core.spi.errors import BackendError, PermanentError
from promoter_core.spi.model import Lease, LeaseLost, Promotion, Renewal, Wake
from promoter_core.spi.optional.fleet import Changes, FleetBackend

log = logging.getLogger("promoter.fleet")

RENEW = 0.4  # interval of renewals, as a fraction of the lease
RETRY = 0.1  # delay before a failed renewal is retried, as a fraction of the lease
LATE = 0.25  # if renewing all leases takes longer than this fraction, each machine renews its own
APART = 0.1  # minimum interval between two rounds of renewals, as a fraction of the lease
WOKEN_AT_ONCE = 256  # queues woken by many changes before others are served
RENEWED_AT_ONCE = 500  # leases renewed in one call; queues are served between the calls
POLLS_A_SECOND = 1_000
RELEASED_AT_ONCE = 100  # locks released concurrently at the end


class MachinePool:
    """`ended` is called with each queue whose machine has stopped, and with the error that stopped it, if any."""

    def __init__(
        self,
        backend: FleetBackend,
        settings: PromoterSettings,
        holder_id: str,
        reporter: Reporter,
        clock: Clock,
        ended: Callable[[str, PermanentError | None], None],
        *,
        until_idle: bool,
    ) -> None:
        self.queues: dict[str, ServedQueue] = {}
        self.renew_s = 0.0  # when the next round of renewals starts
        self._backend = backend
        self._settings = settings
        self._holder_id = holder_id
        self._reporter = reporter
        self._clock = clock
        self._ended = ended
        self._until_idle = until_idle
        self._turns = RoundRobin()
        self._woken: deque[ServedQueue] = deque()  # changed while waiting
        self._freed: deque[ServedQueue] = deque()  # followers whose lock may have been released
        self._renewing: deque[ServedQueue] = deque()  # not renewed yet in this round
        self._renewal_s = float("-inf")  # when the current or last round of renewals began
        self._renewal_fails = False  # joint renewal fails, so each machine renews its own lease
        self._unrenewed: deque[ServedQueue] = deque()  # machines that do not renew their own lease yet
        self._changed: deque[ServedQueue] = deque()  # still to be woken after a change of everything
        self._changed_jobs: deque[str] = deque()  # queues still to be woken after many changes
        self._changed_locks: deque[str] = deque()
        self._answered_s = math.inf  # when the last outcomes of this step had been handled
        self.steps = 0  # number of successful steps
        self.ends = False  # the locks are being released

    @property
    def busy(self) -> bool:
        """Whether a queue is waiting to be served now."""
        return bool(
            self._turns
            or self._woken
            or self._freed
            or self._changed
            or self._changed_jobs
            or self._changed_locks
            or self._unrenewed
        )

    @property
    def room(self) -> int:
        """How many queues to hand over before the next round trip."""
        return RELEASED_AT_ONCE if self.ends else self._turns.room

    @property
    def lock_room(self) -> int:
        """How many queues to take over before the next round trip."""
        return self._turns.lock_room

    @property
    def renews(self) -> bool:
        """Whether leases have to be renewed now."""
        return self.next_renewal_s() <= self._clock.monotonic()

    def next_step_s(self) -> float:
        """When the next step is due, if nothing changes before."""
        due_s = self._turns.next_s()
        return math.inf if due_s is None else due_s

    def next_renewal_s(self) -> float:
        """When leases have to be renewed next."""
        return float("-inf") if self._renewing else self.renew_s

    def lead(self, queue: str) -> None:
        """Start trying to lead the queue."""
        machine = Machine(
            queue,
            self._holder_id,
            self._settings,
            fused=self._backend.capabilities.fused,
            want_jobs=self._reporter.wants_jobs,
            want_traces=self._reporter.wants_traces,
            until_idle=self._until_idle,
            in_fleet=True,
        )
        now_s = self._clock.monotonic()
        served = self.queues[queue] = ServedQueue(queue, machine, machine.start(now_s).action, busy_s=now_s)
        self._turns.enqueue(served)

    def retire(self, queue: str) -> None:
        """Finish the current step and release the queue's lock."""
        served = self.queues[queue]
        served.handed_over = True
        served.machine.shutdown()
        if served.due_s is not None:
            served.due_s = None
            self._handle(served, Waited(False), self._clock.monotonic())

    def on_changes(self, changes: Changes) -> None:
        """End the waits of the queues that have changed: some now, the others in `expire_waits`."""
        if changes.everything:
            self._changed = deque(self.queues.values())
        self._changed_jobs.extend(changes.jobs)
        self._changed_locks.extend(changes.locks)
        self._wake_changed()

    def _wake_changed(self) -> None:
        for queues, state in ((self._changed_locks, State.FOLLOWER), (self._changed_jobs, State.LEADER)):
            for queue in take(queues, WOKEN_AT_ONCE):
                served = self.queues.get(queue)
                if served is not None and served.machine.state is state:
                    self._wake(served)
        for served in take(self._changed, WOKEN_AT_ONCE):
            self._wake(served)

    def _wake(self, served: ServedQueue) -> None:
        """End the queue's wait after a change: in its turn, or after the wait if that is not interruptible."""
        if not served.changed:
            served.changed = True
            if served.due_s is not None and interruptible(served):
                (self._freed if served.machine.state is State.FOLLOWER else self._woken).append(served)

    def expire_waits(self) -> None:
        """End waits that are over, and those of changed queues, as many as there is room for."""
        self._wake_changed()
        now_s = self._clock.monotonic()
        for served in take(self._unrenewed, WOKEN_AT_ONCE):
            self._renews_itself(served, now_s)
        for served in self._turns.due(now_s):
            if (wait := served.machine.resume_wait(now_s)) is not None:  # it was renewed together with the others
                self._wait(served, wait, now_s)
            else:
                self._handle(served, Waited(False), now_s)
        for served in take(self._freed, self._turns.lock_room) + take(self._woken, self._turns.room):
            if served.due_s is not None and served.changed and interruptible(served):
                served.due_s = None
                self._handle(served, Waited(True), now_s)

    async def step(self) -> None:
        """Perform one step for each queue whose turn it is, with one round trip for each kind of step."""
        locks: list[ServedQueue] = []
        promotes: list[ServedQueue] = []
        single: list[ServedQueue] = []
        for served in self._turns.next_round(RELEASED_AT_ONCE if self.ends else AT_ONCE):
            match served.action:
                case Lock():
                    locks.append(served)
                case Promote():
                    promotes.append(served)
                case _:
                    single.append(served)
        self._answered_s = math.inf
        await asyncio.gather(self._ticks(locks, promotes), *map(self._single, single))
        self._reporter.waited(0.0, self._clock.monotonic() - self._answered_s)  # sinks run before this task does

    async def _ticks(self, locks: list[ServedQueue], promotes: list[ServedQueue]) -> None:
        s = self._settings
        if locks:
            await self._together(
                locks, self._backend.lock_many, [x.queue for x in locks], self._holder_id, s.lock_ttl_ms
            )
        if promotes:
            asked = [(x.action.lease, x.action.request) for x in promotes if isinstance(x.action, Promote)]
            await self._together(promotes, self._backend.promote_many, asked)

    async def _single(self, served: ServedQueue) -> None:
        outcome = await as_outcome(execute(self._backend, served.queue, served.action, self._settings))
        self._handle(served, outcome, self._clock.monotonic())
        self._answered_s = self._clock.monotonic()

    async def _together(self, batch: list[ServedQueue], call: Any, *args: Any) -> None:
        began_s = self._clock.monotonic()
        for served in batch:
            served.changed = False
            served.machine.dispatched(began_s)
        try:
            answers: Sequence[Any] = await call(*args)
        except Exception as exc:
            answers = [as_backend_error(exc)] * len(batch)
        now_s = self._clock.monotonic()
        for served, answer in zip(batch, answers, strict=True):
            self._handle(served, Failed(answer) if isinstance(answer, BackendError) else answer, now_s)
        self._answered_s = self._clock.monotonic()

    def renew_soon(self) -> None:
        """Renew the leases soon, after membership was renewed, unless they were just renewed."""
        now_s, lease_s = self._clock.monotonic(), self._settings.lock_ttl_ms / 1000
        if now_s - self._renewal_s > APART * lease_s:
            self.renew_s = min(self.renew_s, now_s)

    async def renew(self) -> Sequence[ServedQueue]:
        """Renew the leases of some led queues before their machines would, and act on what the renewals show.

        A change whose push was lost is noticed here, so it waits for at most one renewal. Returns these queues.
        """
        asked_s, lease_s = self._clock.monotonic(), self._settings.lock_ttl_ms / 1000
        if not self._renewing:
            self._renewal_s, self.renew_s = asked_s, asked_s + RENEW * lease_s
            self._renewing.extend(self.queues.values())
        some = take(self._renewing, RENEWED_AT_ONCE)
        leading = [served for served in some if served.machine.state is State.LEADER]
        if not leading:
            return some
        try:
            answers = await self._backend.renew_many([served.machine.lease for served in leading])
        except BackendError as exc:
            log.debug("the leases could not be renewed together: %s", exc)  # each machine will, or will report why not
            self._renewing.clear()
            self._have_machines_renew()
            self.renew_s = self._clock.monotonic() + RETRY * lease_s
            return some
        now_s = self._clock.monotonic()
        store_ms = next((answer.now_ms for answer in answers if isinstance(answer, Renewal)), 0)
        self._reporter.compare_clocks(store_ms, now_s - asked_s)
        if now_s > self._renewal_s + LATE * lease_s:
            if not self._renewal_fails:
                self._have_machines_renew()
        elif not self._renewing:
            self._renewal_fails = False
        for served, answer in zip(leading, answers, strict=True):
            if isinstance(answer, Renewal):
                self._renewed(served, answer, asked_s, now_s)
            elif isinstance(answer, LeaseLost):
                self._wake(served)  # its next tick finds that the lease is lost
            else:
                log.debug("queue %r: the lease could not be renewed: %s", served.queue, answer)
                self._renews_itself(served, now_s)
        return some

    def _have_machines_renew(self) -> None:
        """Have each machine renew its own lease when necessary, until all are renewed together in time again."""
        self._renewal_fails, self._unrenewed = True, deque(self.queues.values())

    def _renewed(self, served: ServedQueue, renewal: Renewal, asked_s: float, now_s: float) -> None:
        self._reporter.seen(served.queue, now_s)
        wait = served.machine.lease_renewed(renewal, asked_s, now_s)
        if renewal.due:
            self._wake(served)
        elif wait is not None:
            self._wait(served, wait, now_s)

    def _wait(self, served: ServedQueue, wait: Wait, now_s: float) -> None:
        """Wait without a timeout while the leases are renewed together: the renewal reports work."""
        served.action = wait
        if wait.reason is Reason.RENEW and not self._renewal_fails:
            self._turns.rest(served)
        else:
            self._turns.wait(served, now_s + wait.seconds)

    def _renews_itself(self, served: ServedQueue, now_s: float) -> None:
        """End the wait when the machine wants to renew its lease, which was not renewed with the others."""
        if served.due_s == math.inf:
            wait = served.machine.resume_wait(now_s)
            served.action = wait or served.action
            self._turns.wait(served, now_s if wait is None else now_s + wait.seconds)

    async def release(self) -> None:
        """After a cancellation, or a round that does not end, release what may be held, until that fails."""
        now_s = self._clock.monotonic()
        held: list[tuple[ServedQueue, Unlock]] = []
        for served in self.queues.values():
            decision = served.machine.abandon(now_s)
            self._reporter.report(served.queue, decision)
            if isinstance(decision.action, Unlock):
                held.append((served, decision.action))
        outcomes: list[Outcome] = []
        while len(outcomes) < len(held):
            batch = held[len(outcomes) : len(outcomes) + RELEASED_AT_ONCE]
            calls = (release(self._backend, served.queue, unlock, self._settings) for served, unlock in batch)
            done = await asyncio.gather(*calls)
            if all(isinstance(outcome, Failed) for outcome in done):
                done += done[:1] * (len(held) - len(outcomes) - len(done))  # the store does not answer: skip the rest
            outcomes += done
        now_s = self._clock.monotonic()
        for (served, _), outcome in zip(held, outcomes, strict=True):
            self._reporter.report(served.queue, served.machine.handle(outcome, now_s))
        self.queues.clear()
        if (failed := sum(isinstance(outcome, Failed) for outcome in outcomes)) > 1:
            log.warning("%d locks in all could not be released", failed)

    def _handle(self, served: ServedQueue, outcome: Outcome, now_s: float) -> None:
        if served.machine.abandoned:
            return  # a late outcome: the step was given up
        self.steps += not isinstance(outcome, Failed | Waited)
        self._reporter.outcome(served.queue, outcome)
        if isinstance(outcome, Promotion) and (outcome.promoted or outcome.depth):
            served.busy_s = now_s
        decision = served.machine.handle(outcome, now_s, self._poll_s())
        self._reporter.report(served.queue, decision)
        promotes = isinstance(decision.action, Promote)
        drains = promotes and isinstance(outcome, Promotion | Done)
        self._place(served, decision.action, now_s, drains=drains, fresh=promotes and isinstance(outcome, Lease))

    def _poll_s(self) -> float | None:
        """Return the poll interval.

        It grows with the number of queues, to poll at most POLLS_A_SECOND times a second in total.
        """
        if self._backend.capabilities.wake is Wake.ANY_WRITE:
            return None
        return max(self._settings.poll_interval_ms / 1000, len(self.queues) / POLLS_A_SECOND)

    def _place(self, served: ServedQueue, action: Action, now_s: float, *, drains: bool, fresh: bool) -> None:
        served.action = action
        if isinstance(action, Stop):
            del self.queues[served.queue]
            self._reporter.stopped(served.queue, action.error)
            self._ended(served.queue, action.error)
        elif not isinstance(action, Wait):
            self._turns.enqueue(served, drains=drains, fresh=fresh)
        elif served.changed and action.interruptible:
            self._handle(served, Waited(True), now_s)
        else:
            self._wait(served, action, now_s)
