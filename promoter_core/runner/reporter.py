"""`Reporter`: passes the reports of machines to the log and the sinks, and keeps them for health checks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from promoter_core.engine.actions import Decision, Done, Failed, NotReleased, Outcome, Waited
from promoter_core.engine.machine import State
from promoter_core.registry import Registry, installed
from promoter_core.runner.health import Health, served_within_s
from promoter_core.runner.sink_dispatch import MetricsFanout, SinkQueue
from promoter_core.settings import PromoterSettings
from promoter_core.spi.clock import Clock, clock_offset_ms
from promoter_core.spi.errors import BackendError, ConfigError, PermanentError, TransientError
from promoter_core.spi.model import LeaseHeld, LockOutcome, Tick
from promoter_core.spi.sinks import EventSink, MetricsSink

log = logging.getLogger("promoter")

MOVES = 0.9  # if lateness grows by less than this fraction of the elapsed time, the queue is being promoted
SLACK_MS = 50
CALM_S = 10.0  # without an error, before an outage counts as over: some steps succeed in between
FULL_S = 5.0  # before a full stream is logged: trimming also holds jobs back briefly
STALL_S = 1.0  # by which a wait is too long, before a blocked event loop is logged
APART_MS = 1_000  # between the clocks of the store and of this machine, before it is logged
ODD_S = 1.0  # before a queue is reported that does not move under a lock that no promoter renews


@dataclass(slots=True)
class _Last:
    """The latest reports of one queue."""

    tick_s: float | None = None
    seen_s: float | None = None
    error: BackendError | None = None  # from the last step
    outage: str | None = None  # the error code of the outage that was logged
    well_s: float | None = None  # since when there is no error
    holder: str | None = None  # the leader, as last seen
    led_s: float | None = None  # since when this process leads
    held: LeaseHeld | None = None  # the last reply about a lock held by another
    stuck: tuple[float, int] | None = None  # since when its overdue jobs hardly move, and how late they were then
    warned_of: str | None = None  # the holder named in that warning
    full_s: float | None = None  # since when due jobs wait for room in the stream
    full_said: bool = False


class Reporter:
    """Serves the sinks of one promoter, or of a fleet. An outage of many queues is logged as one."""

    def __init__(
        self,
        metrics: Sequence[MetricsSink | str],
        events: Sequence[EventSink | str],
        *,
        clock: Clock,
        registry: Registry | None,
        settings: PromoterSettings,
        holder_id: str,
    ) -> None:
        """`settings` applies to every queue. Raises ConfigError or PluginError when a named sink cannot be created."""
        self._settings = settings
        self._holder_id = holder_id
        registry = registry or installed()  # loads no plugins until it is used
        self._clock = clock
        self._metrics = MetricsFanout(
            _sinks("metrics", metrics, registry.metrics_sink, ("on_tick", "on_lock", "on_error"))
        )
        self._sinks: list[EventSink] = _sinks("events", events, registry.event_sink, ("emit", "close"))
        self._sink_queues: list[SinkQueue] = []
        self._last: dict[str, _Last] = {}
        self._failing: Counter[str] = Counter()  # number of queues by current error code
        self._keep = False
        self._unreleased = 0  # locks not released in this run
        self._stalled_s: float | None = None  # when a blocked event loop was last logged
        self._ahead_ms = 0.0  # the store's clock relative to this machine's, as last logged

    @property
    def wants_jobs(self) -> bool:
        return bool(self._sinks) or self._metrics.wants_jobs

    @property
    def wants_traces(self) -> bool:
        return self._metrics.wants_traces

    def exposition(self) -> tuple[bytes, str] | None:
        """Return the figures as a page, from the first metrics sink that has one, or None."""
        return self._metrics.exposition()

    @property
    def dropped_batches(self) -> int:
        """The number of batches that event sinks were too slow to take, in the current or last run."""
        return sum(sink.dropped for sink in self._sink_queues)

    def start(self, *, keep: bool = False) -> None:
        """Start serving the event sinks. `keep`: the metrics sinks keep their figures at the end, as a result."""
        self._keep = keep
        self._unreleased = 0
        self._metrics.on_sinks(self._sinks)
        self._sink_queues = [SinkQueue(sink, self._metrics.on_sink_failure) for sink in self._sinks]
        for sink in self._sink_queues:
            sink.start()

    async def close(self) -> None:
        """Let the event sinks finish, for a limited time."""
        await asyncio.gather(*(sink.close() for sink in self._sink_queues))

    def end(self) -> None:
        """End the run: the metrics sinks forget its queues."""
        for queue in self._last:
            self._forgotten(queue)

    def outcome(self, queue: str, outcome: Outcome) -> None:
        """Record an outcome before the machine handles it.

        A success ends an error at once, and an outage if it lasts.
        """
        if isinstance(outcome, LeaseHeld):
            self.seen(queue, self._clock.monotonic())
            self._held(queue, outcome)
        last = self._last.get(queue)
        if last is not None and last.outage is not None and not isinstance(outcome, Failed | Waited | Done):
            last.error, now_s = None, self._clock.monotonic()
            last.well_s = now_s if last.well_s is None else last.well_s
            if now_s - last.well_s >= CALM_S:
                self._recovered(queue, last)

    def report(self, queue: str, decision: Decision) -> None:
        """Pass on the reports of a machine's decision."""
        if decision.reports:
            self._of(queue)
        for report in decision.reports:
            match report:
                case LockOutcome():
                    self._lock(queue, report)
                case Tick():
                    last = self._of(queue)
                    last.tick_s = last.seen_s = now_s = self._clock.monotonic()
                    if report.promotion.held_back or last.full_s is not None:
                        self._full(queue, last, report.promotion.held_back, now_s)
                    self.compare_clocks(report.promotion.now_ms, report.duration_s)
                    self._metrics.on_tick(queue, report)
                    if report.promotion.jobs:
                        for sink in self._sink_queues:
                            sink.offer(queue, report.promotion.jobs)
                case BackendError():
                    self._error(queue, report)
                case NotReleased(error, left_s):
                    level = logging.DEBUG if self._unreleased else logging.WARNING  # warn once for many queues
                    self._unreleased += 1
                    what = "queue %r: the lock could not be released (%s); it expires with its lease, in %.1f s at most"
                    log.log(level, what, queue, shown(error), left_s)
                    self._metrics.on_error(queue, error)

    def waited(self, wanted_s: float, took_s: float) -> None:
        """Log that a wait lasted much longer than it should: nothing else ran in this event loop either."""
        late_s, now_s = took_s - wanted_s, self._clock.monotonic()
        if late_s < STALL_S:
            return
        soon = self._stalled_s is not None and now_s - self._stalled_s < CALM_S
        self._stalled_s = self._stalled_s if soon else now_s
        log.log(
            logging.DEBUG if soon else logging.WARNING,
            "the event loop was blocked for %.1f s, and due jobs waited: other code of this process blocks it, "
            "or the process was suspended or has too little CPU",
            late_s,
            extra={"seconds": round(late_s, 1)},
        )

    def compare_clocks(self, store_ms: int, call_s: float) -> None:
        """Log that the clocks of the store and of this machine differ, whenever by how much changes.

        `store_ms` is the store's clock during a call that has just ended, after `call_s` seconds; 0 when unknown.
        """
        if not store_ms:
            return
        ahead = clock_offset_ms(store_ms, self._clock.time_ms(), call_s)
        if abs(ahead - self._ahead_ms) < APART_MS:
            return
        self._ahead_ms = ahead
        if abs(ahead) < APART_MS:
            log.info("the store's clock agrees with this machine's again")
            return
        words = ("ahead of", "early") if ahead > 0 else ("behind", "late")
        log.warning(
            "the store's clock is %.1f s %s this machine's: jobs for a time by this machine's clock are promoted that "
            "much too %s. Delays are exact. Synchronize both clocks",
            *(abs(ahead) / 1_000, *words),
        )

    def _full(self, queue: str, last: _Last, held_back: int, now_s: float) -> None:
        """Log once that due jobs wait for room in the stream, and again when there is room."""
        since_s = now_s if last.full_s is None else last.full_s
        if not held_back:
            if last.full_said:
                log.info("queue %r: the stream has room again, after %.1f s", queue, now_s - since_s)
            last.full_s, last.full_said = None, False
            return
        last.full_s = since_s
        if now_s - since_s >= FULL_S and not last.full_said:
            last.full_said = True
            log.warning(
                "queue %r: the stream is full (%d entries), and %d due jobs wait. "
                "Its consumers do not keep up or do not acknowledge",
                *(queue, self._settings.max_stream_len, held_back),
            )

    def _lock(self, queue: str, outcome: LockOutcome) -> None:
        """Report a transition of the lock."""
        last, now_s, us = self._of(queue), self._clock.monotonic(), self._holder_id
        extra = {"queue": queue, "outcome": outcome.value}
        if outcome is LockOutcome.ACQUIRED:
            log.info("queue %r: this process leads now, as %s", queue, us, extra=extra | {"holder": us})
            last.holder, last.led_s, last.held, last.stuck, last.warned_of = us, now_s, None, None, None
        elif last.led_s is not None:
            what = "lock released" if outcome is LockOutcome.RELEASED else "this process no longer leads"
            log.info("queue %r: %s, after leading for %.1f s", queue, what, now_s - last.led_s, extra=extra)
            last.holder = last.led_s = last.full_s = None
            last.full_said = False
        self._metrics.on_lock(queue, outcome)

    def _held(self, queue: str, held: LeaseHeld) -> None:
        """Log once who else leads, and watch whether the queue's jobs move."""
        last, now_s = self._of(queue), self._clock.monotonic()
        if last.held is None or held.holder != last.held.holder:
            extra = {"queue": queue, "outcome": LockOutcome.HELD.value, "holder": held.holder}
            log.info("queue %r: another process leads: %s", queue, _whose(held), extra=extra)
        last.held, last.holder = held, held.holder
        lag_ms = held.oldest_pending_lag_ms
        if not lag_ms:
            last.stuck = None
            return
        if last.stuck is None or lag_ms - last.stuck[1] < MOVES * (now_s - last.stuck[0]) * 1000 - SLACK_MS:
            last.stuck = (now_s, lag_ms)  # progress: lateness shrinks, or grows more slowly than time
        odd = held.remaining_ms is None or held.remaining_ms > 2 * self._settings.lock_ttl_ms
        bound_s = ODD_S if odd else served_within_s(self._settings)
        if min(now_s - last.stuck[0], lag_ms / 1000) >= bound_s and last.warned_of != (held.holder or ""):
            last.warned_of = held.holder or ""
            log.warning(
                "queue %r: jobs are overdue by %.1f s and are not promoted while another process has the lock: %s. "
                "If that process is gone, delete the lock",
                *(queue, lag_ms / 1000, _whose(held)),
            )

    def seen(self, queue: str, now_s: float) -> None:
        """Record that the queue is led, by us or by another."""
        self._of(queue).seen_s = now_s

    def stopped(self, queue: str, error: PermanentError | None) -> None:
        """Record that the machine of a queue has stopped."""
        last = self._last.get(queue)
        if last is not None and last.well_s is not None:
            self._recovered(queue, last)
        if error is not None:
            extra = {"queue": queue, "code": error.code}
            log.error("promoter of queue %r stops: %s", queue, shown(error), extra=extra)

    def health(self, queue: str, state: State) -> Health:
        last, now_s = self._last.get(queue) or _Last(), self._clock.monotonic()
        tick_age_s = None if last.tick_s is None else now_s - last.tick_s
        led_age_s = None if last.seen_s is None else now_s - last.seen_s
        error = None if last.error is None else shown(last.error)
        leads = state is State.LEADER
        stuck_s = None if last.stuck is None or leads else now_s - last.stuck[0]
        return Health(
            queue=queue,
            state=str(state),
            leads=leads,
            last_tick_age_s=tick_age_s,
            led_age_s=led_age_s,
            last_error=error,
            holder=last.holder,
            stuck_s=stuck_s,
        )

    def forget(self, queue: str) -> None:
        """Forget a queue that is no longer served."""
        last = self._last.pop(queue, None)
        if last is not None:
            self._ended(last)
        self._forgotten(queue)

    def _forgotten(self, queue: str) -> None:
        if not self._keep:
            self._metrics.on_forget(queue)

    def _error(self, queue: str, error: BackendError) -> None:
        last = self._of(queue)
        again = last.outage == error.code
        if not again:
            self._ended(last)
            last.outage = error.code
            self._failing[error.code] += 1
        # Log an outage once, not for every retry or every queue.
        level = logging.DEBUG if again or self._failing[error.code] > 1 else logging.WARNING
        what = "queue %r: %s; retrying" if isinstance(error, TransientError) else "queue %r: %s"
        log.log(level, what, queue, shown(error), extra={"queue": queue, "code": error.code})
        last.error, last.well_s = error, None
        self._metrics.on_error(queue, error)

    def _recovered(self, queue: str, last: _Last) -> None:
        code, well_s = last.outage, self._clock.monotonic() - (last.well_s or 0)
        if self._ended(last):
            extra = {"queue": queue, "code": code, "seconds": round(well_s, 1)}
            log.info("queue %r: recovered from %s, no error for %.1f s", queue, code, well_s, extra=extra)

    def _ended(self, last: _Last) -> bool:
        """End the queue's outage, if any. Return whether no other queue is in it."""
        code, last.outage, last.well_s = last.outage, None, None
        if code is None:
            return False
        self._failing[code] -= 1
        if not self._failing[code]:
            del self._failing[code]
            return True
        return False

    def _of(self, queue: str) -> _Last:
        if (last := self._last.get(queue)) is None:
            last = self._last[queue] = _Last()
        return last


def _sinks(option: str, given: Any, named: Callable[[str], Any], methods: Sequence[str]) -> list[Any]:
    """Return sinks, creating named ones. Raises ConfigError or PluginError."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"{option} must be a list of sinks or of their names, such as {option}=[{given!r:.60}]")
    sinks = [named(s) if isinstance(s, str) else s for s in given]
    for sink in sinks:
        lacking = [m for m in methods if not callable(getattr(sink, m, None))]
        if lacking:
            hint = " (give an object, not its class)" if isinstance(sink, type) else ""
            raise ConfigError(f"{option}: {type(sink).__name__} is not a sink: it has no method {lacking[0]!r}{hint}")
        if isinstance(sink, type):
            raise ConfigError(f"{option}: give an object, {sink.__name__}(), not the class")
    return sinks


def _whose(held: LeaseHeld) -> str:
    holder = held.holder or "the store does not say who"
    if held.remaining_ms is None:
        return f"{holder}, with a lock that does not expire"
    return f"{holder}, {held.remaining_ms / 1000:.1f} s left"


def shown(error: BackendError) -> str:
    """Return the error with its code first, unless the server's own message starts with it."""
    text = str(error)
    return text if text.startswith(error.code) else f"{error.code}: {text}"
