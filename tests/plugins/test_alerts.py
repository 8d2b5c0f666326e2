"""Each alert fires for its cause, in bounded time, at scrapes of 5, 15 and 60 seconds; and for nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("yaml")

import yaml

from tests.plugins.alert_series import (
    EVENT_S,
    GONE,
    LATE_S,
    always,
    busy,
    change,
    exported,
    find,
    healthy,
    process,
    rule_test,
    since,
    until,
)
from tests.servers import required

RULES = Path(__file__).parents[2] / "docs/how-to/monitor/mixin/rules"
FILES = [RULES / "promoter.yml", RULES / "exporter.yml"]
INTERVALS_S = [5, pytest.param(15, marks=pytest.mark.whole_matrix), 60]
NAMES = {r["alert"] for f in FILES for g in yaml.safe_load(f.read_text())["groups"] for r in g["rules"]}


@pytest.fixture(scope="module")
def promtool():
    path = shutil.which("promtool")
    if path is None:
        if "promtool" in required():
            pytest.fail("PROMOTER_REQUIRE names promtool, which is not installed", pytrace=False)
        pytest.skip("promtool is not installed: on Debian, apt-get install prometheus")
    return path


def check(promtool, folder, series, interval_s, expected):
    file = folder / "test.yml"
    file.write_text(rule_test(series, interval_s, expected, FILES))
    thrifty = os.environ | {"GOGC": "800"}  # collecting garbage would take a fifth of the time
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False, env=thrifty
    )
    assert done.returncode == 0, done.stdout + done.stderr


def killed(series):
    """The only process of a queue, while another process runs."""
    for name in find(series, 'instance="a"'):
        if name.startswith("up{"):
            change(series, 0, name)
        else:
            series[name] = until(series[name], EVENT_S)
    change(series, 50, "unled_jobs", "emails", at_s=EVENT_S + 5)


def killed_unexported(series):
    killed(series)
    for name in find(series, "promoter_store_"):
        del series[name]


def unserved(series):
    new = exported("new")
    change(new, 3, "unled_jobs", at_s=EVENT_S + 10)
    series |= {name: since(value, EVENT_S + 10) for name, value in new.items()}


def unserved_among_the_rest(series):
    name = 'promoter_store_unled_jobs{instance="exporter",job="exporter",pattern="*"}'
    series[name] = always(0)
    change(series, 3, name)


def blocked(series):
    """The event loop of a process, whose thread answers scrapes."""
    for name in find(series, 'instance="a"'):
        before = series[name]
        series[name] = lambda t, before=before: before(min(t, EVENT_S))


def malformed_at_the_start(series):
    new = process("c", "new")
    change(new, 3, "malformed_total", at_s=0)
    series |= {name: since(value, EVENT_S) for name, value in new.items()}


def burst(failure):
    def born_at_zero(series):
        change(series, 7, "sink_failures", failure, 'instance="a"')

    return born_at_zero


def burst_of_a_new_series(series):
    name = 'promoter_sink_failures_total{instance="a",job="promoter",sink="Late",failure="dropped"}'
    series[name] = since(always(7), EVENT_S)


def restarts(series):
    change(series, lambda t: t // 4 * 4, "start_timestamp", 'instance="a"')


def restarts_seen_by_half_of_the_scrapes(series):
    change(series, lambda t: GONE if (t - EVENT_S) // 60 % 2 else t // 4 * 4, "start_timestamp", 'instance="a"')


def restarts_exported(series):
    change(series, lambda t: (t - EVENT_S) // 5, "leader_changes", "emails")


def errors(series):
    name = 'promoter_errors_total{instance="a",job="promoter",queue="emails",code="CONNECTION"}'
    series[name] = since(lambda t: 2 * (t - EVENT_S), EVENT_S + 1)


def late(series):
    for bound in [b for b in LATE_S if b < 5]:
        change(series, 10 * EVENT_S, "lateness", "emails", f'le="{bound}"')


def fails_from_its_start(series):
    """The only process of a queue has started again, and has not been seen with a lock since."""
    gauges = ("leads", "delayed_jobs", "oldest_pending", "held_back", "last_tick", "next_due")
    for name in [name for gauge in gauges for name in find(series, gauge, 'instance="a"')]:
        series[name] = until(series[name], EVENT_S)
    change(series, lambda t: 1 + (t - EVENT_S) // 20, "failed_steps", "emails")
    change(series, 50, "unled_jobs", "emails", at_s=EVENT_S + 5)


def set_to(value, *parts):
    return lambda series: change(series, value, *parts)


def no_process(series):
    for name in find(series, 'job="promoter"'):
        series[name] = until(series[name], EVENT_S)


def exporter_gone(series):
    for name in find(series, 'job="exporter"'):
        series[name] = until(series[name], EVENT_S)


UNREAD = "group_undelivered"


def new_group(series):
    change(series, lambda t: 1 + (t - EVENT_S) // 60, UNREAD, "emails")
    series |= {name: since(series[name], EVENT_S + 1) for name in find(series, UNREAD, "emails")}


def unread_among_the_rest(series):
    name = 'promoter_store_group_undelivered_entries{instance="exporter",job="exporter",pattern="*",group="workers"}'
    series[name] = always(0)
    change(series, 374, name)


# What happens, what fires, and after how many seconds at scrapes of 5 and 15 seconds, and of 60.
CASES = {
    "killed": (killed, {"PromoterQueueLost", "PromoterUnserved", "PromoterDown"}, 60, 120),
    "killed, without an exporter": (killed_unexported, {"PromoterQueueLost", "PromoterDown"}, 60, 120),
    "unserved": (unserved, {"PromoterUnserved"}, 60, 120),
    "unserved, beyond --max-queues": (unserved_among_the_rest, {"PromoterUnserved"}, 60, 120),
    "blocked": (blocked, {"PromoterStalled"}, 60, 120),
    "malformed at the start": (malformed_at_the_start, {"PromoterMalformed"}, 30, 90),
    "malformed": (set_to(1, "malformed_total", "emails"), {"PromoterMalformed"}, 45, 90),
    "dropped in a burst": (burst("dropped"), {"PromoterSinkFailure"}, 45, 90),
    "dropped in a burst, as the first of its series": (burst_of_a_new_series, {"PromoterSinkFailure"}, 30, 90),
    "refused webhooks": (burst("refused"), {"PromoterSinkFailure"}, 45, 90),
    "restarts": (restarts, {"PromoterRestarts"}, 60, 150),
    "restarts, half of them unseen": (restarts_seen_by_half_of_the_scrapes, {"PromoterRestarts"}, 60, 270),
    "restarts, exported": (restarts_exported, {"PromoterLeaderChanges"}, 75, 180),
    "errors": (errors, {"PromoterErrors"}, 105, 180),
    "late": (late, {"PromoterLate"}, 345, 450),
    "a clock behind": (set_to(-600, "clock_offset", 'instance="a"'), {"PromoterClock"}, 345, 420),
    "dead letters": (set_to(2, "dead_letter_entries", "emails"), {"PromoterDeadLetters"}, 30, 90),
    "leaderless": (set_to(0, "promoter_leads", "emails"), {"PromoterNoLeader"}, 60, 120),
    "fails from its start": (fails_from_its_start, {"PromoterNoLeader", "PromoterUnserved"}, 60, 120),
    "stuck": (set_to(lambda t: t - EVENT_S, "pending_lag", "emails"), {"PromoterStuck"}, 75, 150),
    "overdue": (set_to(lambda t: t - EVENT_S, "overdue", "emails"), {"PromoterOverdue"}, 75, 150),
    "held back": (set_to(9, "held_back", "emails"), {"PromoterHeldBack"}, 90, 150),
    "unsteady": (set_to(lambda t: 1 + (t - EVENT_S) // 5, "acquired", "emails"), {"PromoterUnsteady"}, 75, 180),
    "no process": (no_process, {"PromoterGone", "PromoterQueueLost"}, 60, 120),
    "exporter gone": (exporter_gone, {"PromoterExporterGone"}, 90, 150),
    "store away": (set_to(0, "exporter_up"), {"PromoterStoreUnreadable"}, 60, 120),
    "one queue unreadable": (set_to(0, "read_ok", "emails"), {"PromoterQueueUnreadable"}, 90, 150),
    "behind": (set_to(500, "oldest_sample"), {"PromoterExporterBehind"}, 90, 150),
    "unacknowledged": (set_to(1000, "group_oldest_pending", "emails"), {"PromoterUnacknowledged"}, 90, 150),
    "unread, few jobs": (set_to(374, UNREAD, "emails"), {"PromoterUnread"}, 690, 765),
    "unread, more jobs": (set_to(lambda t: t - EVENT_S + 1, UNREAD, "emails"), {"PromoterUnread"}, 690, 765),
    "unread by a new group": (new_group, {"PromoterUnread"}, 690, 765),
    "unread, beyond --max-queues": (unread_among_the_rest, {"PromoterUnread"}, 690, 765),
}


@pytest.mark.parametrize("interval_s", INTERVALS_S)
@pytest.mark.parametrize("what", CASES)
def test_it_fires_in_time_and_nothing_else_does(what, interval_s, promtool, tmp_path):
    provoke, fires, soon_s, later_s = CASES[what]
    series = healthy()
    provoke(series)
    after_s = later_s if interval_s == 60 else soon_s
    check(promtool, tmp_path, series, interval_s, {EVENT_S - 15: set(), EVENT_S + after_s: fires})


def test_every_alert_is_provoked():
    assert set().union(*(fires for _, fires, _, _ in CASES.values())) == NAMES


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_a_healthy_fleet_is_quiet(interval_s, promtool, tmp_path):
    check(promtool, tmp_path, healthy(), interval_s, {t: set() for t in range(0, 1200, 15)})


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_errors_and_late_jobs_of_a_failover_are_no_alert(interval_s, promtool, tmp_path):
    series = healthy()
    for bound in [b for b in LATE_S if b < 5]:
        change(series, lambda t: 10 * t - 60, "lateness", "emails", f'le="{bound}"')
    name = 'promoter_errors_total{instance="a",job="promoter",queue="emails",code="CONNECTION"}'
    series[name] = since(always(12), EVENT_S)
    check(promtool, tmp_path, series, interval_s, {t: set() for t in range(EVENT_S, EVENT_S + 900, 15)})


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_a_queue_that_goes_quiet_and_is_dropped_by_its_fleet_never_fires(interval_s, promtool, tmp_path):
    series, drained_s, dropped_s = healthy(), 600, 600 + 3600
    change(series, 0, "delayed_jobs", "emails", at_s=drained_s)
    change(series, drained_s + 1, "next_due", "emails", at_s=drained_s)
    del series[find(series, "next_due", "emails")[0]]  # there is none any more
    for name in find(series, 'instance="a"', 'queue="emails"'):
        series[name] = until(series[name], dropped_s)
    for name in find(series, "promoter_store_", "emails"):
        series[name] = until(series[name], drained_s + 300)
    check(promtool, tmp_path, series, interval_s, {t: set() for t in range(0, dropped_s + 1200, 60)})


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_a_queue_that_another_process_takes_over_pages_nobody(interval_s, promtool, tmp_path):
    series = healthy()
    killed(series)
    change(series, 0, "unled_jobs", "emails", at_s=EVENT_S + 8)
    series |= {n: since(v, EVENT_S + 6) for n, v in process("b", "emails").items() if 'queue="emails"' in n}
    check(promtool, tmp_path, series, interval_s, {EVENT_S + t: {"PromoterDown"} for t in (135, 300, 900)})


@pytest.mark.parametrize("interval_s", INTERVALS_S)
def test_a_process_that_fails_from_its_start_pages_nobody_while_another_leads(interval_s, promtool, tmp_path):
    series = healthy()
    name = 'promoter_failed_steps_total{instance="c",job="promoter",queue="emails"}'
    series[name] = since(lambda t: 1 + (t - EVENT_S) // 20, EVENT_S)
    check(promtool, tmp_path, series, interval_s, {t: set() for t in range(0, EVENT_S + 600, 15)})


# Entries that a group has not read, by second.
READ = {
    "never caught up, but reading": lambda t: 1 + busy(t),
    "a backlog that is drained": lambda t: 40_000 - 10 * t,
    "a slow drain": lambda t: 100 - t // 300,
    "a drain with a batch of new jobs every five minutes": lambda t: 5_000 + 900 * (t // 300) - 3 * t,
    "jobs each hour, which wait for nine minutes": lambda t: 374 if 900 <= t % 3600 < 900 + 540 else 0,
    "one entry now and then": lambda t: int(t // 60 % 8 == 0),
    "a new group, read after nine minutes": since(lambda t: max(0, 374 - (t - 1500 if t > 1500 else 0)), 960),
    "a number that becomes unknown": until(always(374), 600),
    "a store that is away": lambda t: busy(t) if t < 900 else 3 if t < 1200 else GONE if t < 1440 else 2000 - t,
    "a group that is deleted": until(lambda t: t, 500),
}


@pytest.mark.parametrize("interval_s", INTERVALS_S)
@pytest.mark.parametrize("entries", READ)
def test_a_group_that_reads_or_whose_entries_are_not_known_never_fires(entries, interval_s, promtool, tmp_path):
    series = healthy()
    change(series, READ[entries], UNREAD, "emails", at_s=0)
    check(promtool, tmp_path, series, interval_s, {t: set() for t in range(0, 5400, 15)})


def test_the_end_of_a_series_is_marked():
    assert "1 1 stale _" in rule_test({"up": until(always(1), 2)}, 1, {2: set()}, FILES)
    assert GONE == "stale"
