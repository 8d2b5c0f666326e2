"""`Reporter`: passes on what machines report, to the log, the metrics and the sinks, and remembers it for health."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from promoter_core.actions import Decision, Done, Failed, Outcome, Waited
from promoter_core.contracts import Clock, EventSink, MetricsSink
from promoter_core.errors import BackendError, PermanentError
from promoter_core.machine import State
from promoter_core.model import Health, LeaseHeld, LockOutcome, Tick
from promoter_core.registry import Registry
from promoter_core.settings import PromoterSettings
from promoter_core.sinks import EventFeed, MetricsFanout

log = logging.getLogger("promoter")


@dataclass(slots=True)
class _Last:
    """Of one queue."""

    tick_s: float | None = None
    seen_s: float | None = None
    error: BackendError | None = None


class Reporter:
    """Serves the sinks of one promoter, or of a fleet. An outage of many queues is logged as one."""

    def __init__(
        self,
        metrics: Sequence[MetricsSink | str],
        events: Sequence[EventSink | str],
        clock: Clock,
        registry: Registry | None,
    ) -> None:
        """Raises ConfigError or PluginError when a named sink cannot be had."""
        registry = registry or Registry()  # loads nothing before it is asked
        self._clock = clock
        self._metrics = MetricsFanout([registry.metrics_sink(s) if isinstance(s, str) else s for s in metrics])
        self._sinks: list[EventSink] = [registry.event_sink(s) if isinstance(s, str) else s for s in events]
        self._feeds: list[EventFeed] = []
        self._last: dict[str, _Last] = {}
        self._failing: Counter[str] = Counter()  # queues by the code of the error that they are in
        self._keep = False

    @property
    def wants_jobs(self) -> bool:
        return bool(self._sinks) or self._metrics.wants_jobs

    @property
    def wants_traces(self) -> bool:
        return self._metrics.wants_traces

    def exposition(self) -> tuple[bytes, str] | None:
        """The figures as a page, of the first metrics sink that has one."""
        return self._metrics.exposition()

    @property
    def dropped_batches(self) -> int:
        """Batches that event sinks were too slow to take, in this or the last run."""
        return sum(feed.dropped for feed in self._feeds)

    def start(self, *, keep: bool = False) -> None:
        """Begin to serve the event sinks. `keep`: at the end the metrics sinks keep their figures, as a result."""
        self._keep = keep
        self._feeds = [EventFeed(sink, self._metrics.on_sink) for sink in self._sinks]
        for feed in self._feeds:
            feed.start()

    async def close(self) -> None:
        """At the end of a run: have the metrics sinks forget its queues, and let the event sinks finish, for a time."""
        for queue in self._last:
            self._forgotten(queue)
        for feed in self._feeds:
            await feed.close()

    def outcome(self, queue: str, outcome: Outcome) -> None:
        """Before the machine handles it: after an error, the first thing that goes well ends the outage."""
        if isinstance(outcome, LeaseHeld):
            self.seen(queue)
        last = self._last.get(queue)
        if last is not None and last.error is not None and not isinstance(outcome, Failed | Waited | Done):
            if self._ended(last.error):
                log.info("queue %r: recovered from %s", queue, last.error.code)
            last.error = None

    def report(self, queue: str, decision: Decision) -> None:
        """What the machine of a queue reports with its decision."""
        if decision.reports:
            self._of(queue)
        for report in decision.reports:
            match report:
                case LockOutcome():
                    log.info("queue %r: lock %s", queue, report)
                    self._metrics.on_lock(queue, report)
                case Tick():
                    last = self._of(queue)
                    last.tick_s = last.seen_s = self._clock.monotonic()
                    self._metrics.on_tick(queue, report)
                    if report.promotion.jobs:
                        for feed in self._feeds:
                            feed.offer(queue, report.promotion.jobs)
                case BackendError():
                    self._error(queue, report)

    def seen(self, queue: str) -> None:
        """The queue is led, by us or by another."""
        self._of(queue).seen_s = self._clock.monotonic()

    def stopped(self, queue: str, error: PermanentError | None) -> None:
        """The machine of a queue has stopped."""
        if error is not None:
            log.error("promoter of queue %r stops: %s", queue, shown(error))

    def health(self, queue: str, state: State) -> Health:
        last, now_s = self._last.get(queue) or _Last(), self._clock.monotonic()
        tick_age_s = None if last.tick_s is None else now_s - last.tick_s
        seen_age_s = None if last.seen_s is None else now_s - last.seen_s
        error = None if last.error is None else shown(last.error)
        return Health(queue, str(state), state is State.LEADER, tick_age_s, seen_age_s, error)

    def forget(self, queue: str) -> None:
        """The queue is served no longer."""
        last = self._last.pop(queue, None)
        if last is not None and last.error is not None:
            self._ended(last.error)
        self._forgotten(queue)

    def _forgotten(self, queue: str) -> None:
        if not self._keep:
            self._metrics.on_forget(queue)

    def _error(self, queue: str, error: BackendError) -> None:
        last = self._of(queue)
        again = last.error is not None and last.error.code == error.code
        if not again:
            if last.error is not None:
                self._ended(last.error)
            self._failing[error.code] += 1
        # An outage is logged once, not every 400 ms, and not for every queue.
        level = logging.DEBUG if again or self._failing[error.code] > 1 else logging.WARNING
        log.log(level, "queue %r: %s", queue, shown(error))
        last.error = error
        self._metrics.on_error(queue, error)

    def _ended(self, error: BackendError) -> bool:
        """One queue less has this error; whether none is left."""
        self._failing[error.code] -= 1
        if not self._failing[error.code]:
            del self._failing[error.code]
            return True
        return False

    def _of(self, queue: str) -> _Last:
        if (last := self._last.get(queue)) is None:
            last = self._last[queue] = _Last()
        return last


def unready(health: Health, s: PromoterSettings) -> list[str]:
    """Why the queue is not known to be served: it was not seen to be led for two leases, or two looks at the lock."""
    bound_s = 2 * max(s.lock_ttl_ms, s.follower_poll_ms) / 1000
    if health.seen_age_s is not None and health.seen_age_s <= bound_s:
        return []
    seen = "never seen to be led" if health.seen_age_s is None else f"not seen to be led for {health.seen_age_s:.1f} s"
    return [f"queue {health.queue!r}: {seen}" + (f" ({health.last_error})" if health.last_error else "")]


def shown(error: BackendError) -> str:
    """The error with its code in front; a server's own message has it there already."""
    text = str(error)
    return text if text.startswith(error.code) else f"{error.code}: {text}"
