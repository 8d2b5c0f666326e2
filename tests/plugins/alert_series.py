"""Input of Prometheus' rule tests: a healthy fleet with an exporter, as functions of time, and changes to it.

A function gives the value at a second, None when the series has no sample then, and GONE at the end of a series, where
Prometheus puts a marker because a scrape failed or no longer had it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

GONE = "stale"
EVENT_S = 900  # when the provocation happens
LATE_S = (0.002, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0)

Value = Callable[[int], "float | str | None"]


def always(value: float | str | None) -> Value:
    return lambda t: value


def until(value: Value, end_s: int) -> Value:
    return lambda t: value(t) if t < end_s else GONE


def since(value: Value, start_s: int) -> Value:
    return lambda t: value(t) if t >= start_s else None


def then(before: Value, after: Value, at_s: int = EVENT_S) -> Value:
    return lambda t: before(t) if t < at_s else after(t)


def busy(t: int) -> int:
    """Entries that a group has not read yet: 0, 1 or 6, and less than before within any five scrapes."""
    return pow(t // 5, 3, 7)


def process(instance: str, queue: str) -> dict[str, Value]:
    """The series of a process that leads a queue on which ten jobs a second are promoted in time."""
    at = f'instance="{instance}",job="promoter"'
    of = f'{at},queue="{queue}"'
    series = {
        f"up{{{at}}}": always(1),
        f"promoter_queues{{{at}}}": always(1),
        f"promoter_start_timestamp_seconds{{{at}}}": always(0),
        f"promoter_clock_offset_seconds{{{at}}}": always(-0.2),
        f"promoter_leads{{{of}}}": always(1),
        f"promoter_delayed_jobs{{{of}}}": always(50),
        f"promoter_oldest_pending_lag_seconds{{{of}}}": always(0),
        f"promoter_held_back_jobs{{{of}}}": always(0),
        f"promoter_last_tick_timestamp_seconds{{{of}}}": lambda t: t,
        f"promoter_next_due_timestamp_seconds{{{of}}}": lambda t: t + 1,
        f"promoter_malformed_total{{{of}}}": always(0),
        f"promoter_failed_steps_total{{{of}}}": always(0),
        f'promoter_lock_outcomes_total{{{of},outcome="acquired"}}': always(1),
    }
    for failure in ("failed", "dropped", "blocked", "refused"):
        series[f'promoter_sink_failures_total{{{at},sink="WebhookEvents",failure="{failure}"}}'] = always(0)
    for bound in (*LATE_S, "+Inf"):
        series[f'promoter_lateness_seconds_bucket{{{of},le="{bound}"}}'] = lambda t: 10 * t
    return series


def exporter(*queues: str) -> dict[str, Value]:
    """The series of an exporter on some queues that are served."""
    at = 'instance="exporter",job="exporter"'
    series = {
        f"up{{{at}}}": always(1),
        f"promoter_exporter_up{{{at}}}": always(1),
        f"promoter_exporter_last_read_age_seconds{{{at}}}": always(2),
        f"promoter_exporter_oldest_sample_age_seconds{{{at}}}": always(5),
    }
    for queue in queues:
        series |= exported(queue)
    return series


def exported(queue: str) -> dict[str, Value]:
    of = f'instance="exporter",job="exporter",queue="{queue}"'
    zeros = ("unled_jobs", "overdue_seconds", "leader_changes_total", "dead_letter_entries")
    return {f"promoter_store_{name}{{{of}}}": always(0) for name in zeros} | {
        f"promoter_store_read_ok{{{of}}}": always(1),
        f'promoter_store_group_oldest_pending_seconds{{{of},group="workers"}}': always(1),
        f'promoter_store_group_undelivered_entries{{{of},group="workers"}}': busy,
    }


def healthy() -> dict[str, Value]:
    """Two processes that each lead a queue, and an exporter that sees both."""
    return process("a", "emails") | process("b", "bills") | exporter("emails", "bills")


def find(series: dict[str, Value], *parts: str) -> list[str]:
    """The names of the series in which all these parts are."""
    found = [name for name in series if all(part in name for part in parts)]
    assert found, parts
    return found


def change(series: dict[str, Value], value: Value | float | str | None, *parts: str, at_s: int = EVENT_S) -> None:
    """From the event on, the series with these parts have this value."""
    for name in find(series, *parts):
        series[name] = then(series[name], value if callable(value) else always(value), at_s)


def rule_test(series: dict[str, Value], interval_s: int, expected: dict[int, set[str]], rules: Iterable[Path]) -> str:
    """A file for `promtool test rules`: at these seconds these alerts fire, and no others."""
    end_s = max(expected) + interval_s
    text: str = yaml.safe_dump(
        {
            "rule_files": [str(path) for path in rules],
            "evaluation_interval": "15s",
            "tests": [
                {
                    "interval": f"{interval_s}s",
                    "input_series": [
                        {"series": name, "values": " ".join(_written(value, interval_s, end_s))}
                        for name, value in series.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                            "eval_time": f"{at_s}s",
                            "exp_samples": [
                                {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)
                            ],
                        }
                        for at_s, names in expected.items()
                    ],
                }
            ],
        }
    )
    return text


def _written(value: Value, interval_s: int, end_s: int) -> Iterator[str]:
    gone = False
    for t in range(0, end_s + 1, interval_s):
        now = value(t)
        yield "_" if now is None or (now == GONE and gone) else str(now)
        gone = now == GONE
