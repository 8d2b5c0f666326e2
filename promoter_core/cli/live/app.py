"""`WatchApp`: the table of queues, a chart of upcoming jobs, and a status line."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from promoter_core import BackendError
from promoter_core.cli import output
from promoter_core.cli.live import chart, dialogs, frame
from promoter_core.cli.live.queue import QueueScreen
from promoter_core.cli.live.rows import Rows
from promoter_core.cli.live.source import SUMMED, Source, silence_logs
from promoter_core.cli.live.words import short, state_of
from promoter_core.monitor import QueueSnapshot

LOW = 16  # lines of a low screen
TICK_S = 1.0  # maximum time between two updates of the screen
SORTS = ("name", "trouble", "delayed", "due")
KEYS = """\
The table
  up, down, page up, page down, home, end, or j, k, g, G: move
  enter  open the queue: jobs, dead letters, consumer groups
  /      filter by a part of the name, or by a pattern: mail-*
  s      sort by name, trouble, delayed jobs, due jobs
  z      chart the next minute, hour, day or week
  a      chart the queue under the cursor, or all queues shown
  p      pause, and resume
  q      quit (or Ctrl-C)

The columns
  state      ok; idle: no jobs wait; late: jobs have been due for 5 s;
             no leader: jobs wait, and no promoter leads; error
  delayed    waiting jobs; due: those that are due now
  next       time until the next job is due; negative if it is overdue
  /s         entries added to the stream per second
  p50, p99   lateness of the promoted jobs that were observed, for the
             first 12 queues on the screen; p50 needs 90 columns, and
             wider screens show more columns
  pend+new   entries of all groups: not acknowledged + not delivered
  DLQ        dead letters

In a queue
  enter    show a job with all its details and data
  /        find a job by its id, or jobs by name=…
  d        switch between jobs and dead letters
  ] and [  next page, previous page
  n, t, x  run the job now, reschedule it, cancel it
  r, x     requeue a dead letter, delete it
  p        pause, and resume
  escape   back
"""


class QueuesScreen(Screen[None]):
    """All queues, and a chart of the upcoming jobs of one or of all."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.quit", "quit"),
        Binding("slash", "filter", "filter"),
        Binding("s", "sort", "sort"),
        Binding("z", "zoom", "zoom"),
        Binding("a", "all", "all"),
        Binding("p", "pause", "pause"),
        Binding("question_mark", "keys", "keys"),
    ]

    def __init__(self, source: Source, url: str, *, read_only: bool) -> None:
        super().__init__()
        self._source, self._url, self._read_only = source, url, read_only
        self._sort = self._zoom = 0
        self._filter = ""
        self._all = self._paused = False
        self._queues: Sequence[QueueSnapshot] = ()

    def compose(self) -> ComposeResult:
        yield Static(id="title", classes="bar")
        yield Rows(id="queues", empty="no queue has delayed jobs or a leader yet")
        yield Static(id="future")
        yield Static(id="status", classes="line")
        yield Static(id="keys", classes="bar")

    def on_mount(self) -> None:
        self.set_interval(min(TICK_S, self._source.refresh_s), self.draw)
        self.query_one(Rows).focus()
        self.draw()

    def on_screen_resume(self) -> None:
        self.draw()

    def on_rows_moved(self) -> None:
        self.draw()

    def on_rows_opened(self, event: Rows.Opened) -> None:
        self.app.push_screen(QueueScreen(self._source, event.key, read_only=self._read_only))

    def draw(self) -> None:
        """Show the current state of the source."""
        if not self.is_current or not self.is_mounted:
            return
        state = self._source.state()
        self.query_one("#future").display = self.size.height >= LOW  # on a low screen the table needs the lines
        if not self._paused:
            self._queues = self._chosen(state.queues)
        queues, rows = {queue.name: queue for queue in self._queues}, self.query_one(Rows)
        columns = frame.columns(self.size.width)
        if not self._paused:
            rows.empty = "no queue matches" if self._filter else "no queue has delayed jobs or a leader yet"
            rows.show(
                columns,
                [(queue.name, state_of(queue).bad) for queue in self._queues],
                lambda name: frame.cells(queues[name], self._source.probe(name), columns),
            )
        self._source.show(rows.seen)
        self._draw_title(state.queues)
        self._draw_future(queues.get(rows.key or ""), state.queues)
        self._draw_status()

    def _chosen(self, queues: Sequence[QueueSnapshot]) -> list[QueueSnapshot]:
        text = self._filter.lower()
        found = [q for q in queues if text in q.name.lower() or fnmatchcase(q.name, self._filter)] if text else queues
        by = SORTS[self._sort]
        if by == "trouble":
            return sorted(found, key=lambda queue: (state_of(queue).rank, queue.name))
        if by in ("delayed", "due"):
            field = "depth" if by == "delayed" else "due"
            return sorted(found, key=lambda queue: (-getattr(queue.stats, field, 0), queue.name))
        return sorted(found, key=lambda queue: queue.name)

    def _draw_title(self, queues: Sequence[QueueSnapshot]) -> None:
        words = [f" promoter watch  {output.shown(self._url)}", frame.summary(queues)]
        words += ["read only"] if self._read_only else []
        self.query_one("#title", Static).update(_line(frame.fit("   ".join(words), self.size.width)))

    def _draw_future(self, under: QueueSnapshot | None, queues: Sequence[QueueSnapshot]) -> None:
        zoom = chart.ZOOMS[self._zoom]
        wanted = self._queues if self._all else [under] if under is not None else []
        seen, count = self._source.want_future(wanted, zoom)
        if self._all:
            of = f"{count:,} queues" + (
                f" of {len(wanted):,}, those with the most jobs" if len(wanted) > SUMMED else ""
            )
        else:
            of = "no queue" if under is None else output.shown(under.name)
        parts = [f"due in the next {zoom.name}: {of}"]
        if seen is not None:
            coming = sum(seen.bars)
            parts.append(f"{short(coming)} job{'' if coming == 1 else 's'}, {short(seen.later)} later")
        lines = [
            frame.ruled(" · ".join(parts), self.size.width),
            *chart.draw(seen, zoom, self.size.width - 1),
            " " + frame.coming(queues),
        ]
        self.query_one("#future", Static).update(_line("\n".join(lines)))

    def _draw_status(self) -> None:
        words = [self._source.trouble()]
        words += [f"filter: {output.shown(self._filter)}"] if self._filter else []
        words += ["paused: p resumes"] if self._paused else []
        text = "   ".join(word for word in words if word)
        self.query_one("#status", Static).update(_line(f" {output.shown(text)}", style="bold"))
        whose = "one" if self._all else "all"
        keys = f" ↵ open  / filter  s sort: {SORTS[self._sort]}  z zoom  a chart {whose}  p pause  ? keys  q quit"
        self.query_one("#keys", Static).update(_line(frame.fit(keys, self.size.width)))

    @work(exclusive=True, group="ask")
    async def action_filter(self) -> None:
        asked = dialogs.Ask(
            "Show queues whose name contains this text or matches this pattern; empty: all", self._filter
        )
        if (text := await self.app.push_screen_wait(asked)) is not None:
            self._filter = text
        self.draw()

    def action_sort(self) -> None:
        self._sort = (self._sort + 1) % len(SORTS)
        self.draw()

    def action_zoom(self) -> None:
        self._zoom = (self._zoom + 1) % len(chart.ZOOMS)
        self.draw()

    def action_all(self) -> None:
        self._all = not self._all
        self.draw()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self.draw()

    def action_keys(self) -> None:
        self.app.push_screen(dialogs.Show("Keys and columns", KEYS))


def _line(text: str, style: str = "") -> Text:
    """Return plain text without markup, cut at the edge of the screen."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis", end="")


class WatchApp(App[None]):
    """The program. `error` is the error that ended it; `interrupted` is true after Ctrl-C."""

    ENABLE_COMMAND_PALETTE = False
    CSS = (
        dialogs.CSS
        + """
    Screen, Static, Rows, Vertical, VerticalScroll, Input, Input:focus {
        background: ansi_default; color: ansi_default; background-tint: ansi_default 0%;
    }
    Input > .input--cursor { text-style: reverse; color: ansi_default; background: ansi_default; }
    .bar { height: 1; text-style: reverse; }
    .line { height: 1; }
    #future { height: 8; }
    #figures { height: auto; max-height: 10; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "suspend", show=False),
    ]

    def __init__(self, source: Source, url: str, *, read_only: bool) -> None:
        super().__init__(ansi_color=True)  # use the terminal's colours
        self._source = source
        self._queues = QueuesScreen(source, url, read_only=read_only)
        self.error: BackendError | None = None
        self.interrupted = False

    def get_default_screen(self) -> Screen[None]:
        return self._queues

    def on_mount(self) -> None:
        silence_logs()
        for name in ("SIGTERM", "SIGHUP"):
            if (sign := getattr(signal, name, None)) is not None:
                try:
                    asyncio.get_running_loop().add_signal_handler(sign, self.exit)
                except (NotImplementedError, RuntimeError):  # on Windows, or outside the main thread
                    break
        if self._source.failed is not None:
            self._source.failed.add_done_callback(self._on_failed)

    def _on_failed(self, failed: asyncio.Future[BackendError]) -> None:
        if not failed.cancelled():
            self.error = failed.result()
            self.exit()

    def action_interrupt(self) -> None:
        self.interrupted = True
        self.exit()
