"""One frame of the live view, as text and as JSON; figures where there is little room; and who cannot have it live."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from promoter_core.cli import watch
from promoter_core.cli.live import chart, frame
from promoter_core.cli.live.words import short, short_rate, short_s, sparkline
from promoter_core.monitor import Future, QueueSnapshot
from promoter_core.spi import PermanentError
from promoter_memory.backend import MemoryBackend
from tests.unit.test_cli_jobs import Shop


@pytest.fixture
def shop(capsys, monkeypatch):
    return Shop(capsys, monkeypatch)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9999"), (12_345, "12.3k"), (999_949, "1.0M"), (10**9, "1.0G"), (10**16, "lots")],
)
def test_numbers_are_short(number, text):
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.25, "250ms"), (1.25, "1.2s"), (59.7, "1.0m"), (3_600, "1.0h"), (10**6, "12d")]
)
def test_intervals_are_short(seconds, text):
    assert short_s(seconds) == text


@given(st.floats(0, 1e12))
def test_figures_fit_their_columns(number):
    assert len(short(number)) <= 5
    assert len(short_s(number)) <= 5
    assert len(short_rate(number)) <= 5


def test_a_sparkline_shows_the_last_values():
    assert sparkline([9, 0, 4, 8], 3) == "▁▅█"
    assert sparkline([0, 0], 5) == "▁▁"
    assert sparkline([], 5) == ""


def test_bars_show_the_smallest_number_and_the_peak():
    bars = (1_000, 1, 0, 500, *[0] * 56)
    lines = chart.draw(Future(now_ms=0, step_ms=1_000, overdue=7, bars=bars, later=0), chart.ZOOMS[0], 79)
    cells = [line[10:14].ljust(4) for line in lines[:5]]
    assert [column.strip() for column in map("".join, zip(*cells, strict=True))] == ["│││││", "█████", "▁", ""]
    assert "overdue │" in lines[0]
    assert "7 │" in lines[1]
    assert "1000 │" in lines[4]
    assert lines[5].split() == ["now", "15", "s", "30", "s", "45", "s", "1", "min"]


@given(st.integers(20, 300), st.sampled_from(chart.ZOOMS))
def test_a_chart_fits_its_width(width, zoom):
    seen = Future(now_ms=0, step_ms=1, overdue=10**12, bars=tuple(range(zoom.bars)), later=0)
    lines = chart.draw(seen, zoom, width)
    assert len(lines) == chart.HEIGHT + 1
    assert all(len(line) <= max(width, chart.LEFT + 2) for line in lines)


@pytest.mark.parametrize("width", [80, 100, 200])
@given(name=st.text(min_size=1, max_size=60))
def test_a_row_is_as_wide_as_the_screen_whatever_a_queue_is_called(width, name):
    queue = QueueSnapshot(name=name, pattern="*", error=PermanentError("x", code="X"))
    columns = frame.columns(width)
    row = frame.line(columns, frame.cells(queue, None, columns), width)
    assert cell_len(row) == width
    assert row.isprintable()


def test_once_prints_a_frame_without_textual(shop, monkeypatch):
    monkeypatch.setitem(sys.modules, "textual", None)
    shop.schedule("a", 30)
    shop.schedule("b", 7_200, queue="sms")
    code, out, _ = shop("watch", "--once")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["queue", "state", "delayed", "due"]
    assert lines[1].split()[:5] == ["emails", "no", "leader", "1", "0"]
    assert lines[4:] == [
        "all queues: 0 overdue · due within 1 min: 1, 1 h: 1, 1 day: 2",
        "2 queues, 2 without a leader",
    ]


def test_json_is_one_document_of_the_queues_that_match(shop):
    shop.schedule("a", 30)
    shop.schedule("b", 30, queue="sms")
    code, out, _ = shop("watch", "--json", "--queue", "s*")
    document = json.loads(out)
    assert code == 0
    (queue,) = document["queues"]
    assert (queue["queue"], queue["state"], queue["stats"]["depth"]) == ("sms", "no leader", 1)
    assert queue["coming"] == {"minute": 1, "hour": 1, "day": 1}
    assert document["states"]["no leader"] == 1
    assert document["more"] is False


def test_nothing_to_show_is_said(shop):
    code, out, err = shop("watch", "--once", "--queue", "nothing-*")
    assert (code, out) == (0, "")
    assert "no matching queue has delayed jobs or a leader" in err


def test_without_textual_a_line_says_what_to_install(shop, monkeypatch):
    monkeypatch.setattr("promoter_core.cli.watch.find_spec", lambda name: None)
    code, _, err = shop("watch")
    assert code == 1
    assert "pip install 'promoter-core[tui]'" in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "promoter watch needs a terminal; --once prints one frame"),
        (("--refresh", "0"), "--refresh must be 0.2 to 3600 seconds, not 0"),
        (("--refresh", "nan"), "--refresh must be 0.2 to 3600 seconds, not nan"),
        (("--once", "--queue", "{x}"), "braces"),
    ],
)
def test_what_cannot_work_is_one_line(words, line, shop, monkeypatch):
    monkeypatch.setattr("promoter_core.cli.watch.find_spec", lambda name: name)
    code, _, err = shop("watch", *words)
    assert code == 2
    assert line in err


def test_a_mistake_of_ours_ends_the_view_with_code_1(monkeypatch):
    textual = pytest.importorskip("textual.app")
    from promoter_core.cli.live.app import WatchApp

    def fail(self):
        raise RuntimeError("a mistake")

    monkeypatch.setattr("promoter_core.cli.signals.leave_what_hangs", lambda seconds, code: None)
    monkeypatch.setattr(WatchApp, "on_mount", fail)
    monkeypatch.setattr(WatchApp, "run_async", lambda self, **_: textual.App.run_async(self, headless=True))
    with pytest.raises(SystemExit) as ended:
        watch._run(MemoryBackend(), "memory://", ["*"], refresh_s=1.0, read_only=False)
    assert ended.value.code == 1


def test_the_view_ends_though_a_thread_hangs():
    pytest.importorskip("textual")
    program = """
import asyncio, time
from textual.app import App
from promoter_core.cli import watch
from promoter_core.cli.live.app import WatchApp
from promoter_memory.backend import MemoryBackend

def leave(self):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 90)
    self.set_timer(0.2, self.action_interrupt)

WatchApp.on_mount = leave
WatchApp.run_async = lambda self, **_: App.run_async(self, headless=True)
watch.THREADS_S = 0.1
watch._run(MemoryBackend(), "memory://", ["*"], refresh_s=1.0, read_only=False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
