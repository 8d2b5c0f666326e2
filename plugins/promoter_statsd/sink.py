"""`StatsdMetrics`: metrics of a promoter as StatsD packets named `prefix.queue.figure`, since StatsD has no labels."""

from __future__ import annotations

import re
from typing import Any

from statsd import StatsClient

from promoter_core.spi import BackendError, ConfigError, LockOutcome, SinkFailure, Tick, sample_ms, sink_options

GAUGES = ("leads", "delayed_jobs", "oldest_pending_lag_ms", "held_back_jobs")
TIMED = 20  # maximum timings of lateness sent for a tick


class StatsdMetrics:
    """A metrics sink. It uses UDP: nothing waits for the server, and a missing server goes unnoticed."""

    wants_jobs = False

    def __init__(
        self, host: str = "127.0.0.1", port: str = "8125", prefix: str = "promoter", *, client: Any = None
    ) -> None:
        """Raises ConfigError for an invalid port, or a host that cannot be found."""
        number = sink_options.port("statsd", port)
        try:
            self._client = client or StatsClient(host, number, prefix=prefix or None)
        except OSError as exc:
            raise ConfigError(f"statsd: {host!r} cannot be found: {exc.strerror or exc}") from exc
        self._led: set[str] = set()  # queues whose gauges this process sends

    def close(self) -> None:
        """Close the socket."""
        self._client.close()

    def on_tick(self, queue: str, tick: Tick) -> None:
        p, name = tick.promotion, _name(queue)
        self._led.add(queue)
        with self._client.pipeline() as packets:
            packets.gauge(f"{name}.delayed_jobs", p.depth)
            packets.gauge(f"{name}.oldest_pending_lag_ms", p.oldest_pending_lag_ms)
            packets.gauge(f"{name}.held_back_jobs", p.held_back)
            packets.timing(f"{name}.tick_duration", tick.duration_s * 1000)
            if p.malformed:
                packets.incr(f"{name}.malformed", p.malformed)
            if p.promoted:
                packets.incr(f"{name}.promoted", p.promoted)
                for late_ms in sample_ms(p.promoted, p.lateness_counts, TIMED):
                    packets.timing(f"{name}.lateness", late_ms)

    def on_lock(self, queue: str, outcome: LockOutcome) -> None:
        name = _name(queue)
        self._client.incr(f"{name}.lock.{outcome.value}")
        if outcome is LockOutcome.ACQUIRED:
            self._led.add(queue)
            self._client.gauge(f"{name}.leads", 1)
        else:
            self._clear(queue)

    def on_forget(self, queue: str) -> None:
        self._clear(queue)

    def _clear(self, queue: str) -> None:
        """Reset our gauges, which a server would repeat. Those of a queue that we do not lead belong to another."""
        if queue not in self._led:
            return
        self._led.discard(queue)
        with self._client.pipeline() as packets:
            for gauge in GAUGES:
                packets.gauge(f"{_name(queue)}.{gauge}", 0)

    def on_error(self, queue: str, error: BackendError) -> None:
        self._client.incr(f"{_name(queue)}.errors.{_name(error.code)}")

    def on_sink_failure(self, sink: str, failure: SinkFailure) -> None:
        self._client.incr(f"sinks.{_name(sink)}.{failure.value}")


def _name(text: str) -> str:
    """Return a part of a name, with dots and StatsD's special characters replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)
