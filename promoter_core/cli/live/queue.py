"""`QueueScreen`: a queue, its waiting jobs and dead letters, and actions on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from promoter_core import DelayedJob, DelayedQueue, JobError, JobOutcome, PromoterError
from promoter_core.cli import jobs as jobs_of_cli
from promoter_core.cli import output
from promoter_core.cli.live import details, dialogs, frame
from promoter_core.cli.live.frame import Column
from promoter_core.cli.live.letters import Letters
from promoter_core.cli.live.rows import Rows
from promoter_core.cli.live.source import Source
from promoter_core.cli.times import parse_when
from promoter_core.spi import StreamEntry

PAGE = 100  # jobs
LOOKS = 5  # pages read in search of jobs with a name, until one has a match
JOBS = (
    Column("due", 16),
    Column("id", 26),
    Column("name", 12),
    Column("tries", 5, True, since=90),
    Column("data", 0),
)
OUTCOMES = {
    JobOutcome.PROMOTED: "is in the stream now",
    JobOutcome.REMOVED: "is cancelled",
    JobOutcome.MOVED: "has a new due time",
    JobOutcome.NOT_FOUND: "no longer waits: it was promoted, cancelled or changed meanwhile",
    JobOutcome.ALREADY_PROMOTED: "no longer waits: it was promoted",
}


class QueueScreen(Screen[None]):
    """A queue. An action applies to the job that was under the cursor when its key was pressed, even if rows move."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,backspace", "back", "back"),
        Binding("slash", "find", "find"),
        Binding("d", "letters", "dead letters"),
        Binding("right_square_bracket", "page(1)", "next page"),
        Binding("left_square_bracket", "page(-1)", "previous page"),
        Binding("p", "pause", "pause"),
        Binding("n", "run_now", "run now"),
        Binding("t", "reschedule", "reschedule"),
        Binding("r", "requeue", "requeue"),
        Binding("x", "remove", "cancel"),
    ]

    def __init__(self, source: Source, queue: str, *, read_only: bool) -> None:
        super().__init__()
        self._source, self._read_only = source, read_only
        self._queue = DelayedQueue(source.backend, queue)
        self._letters = Letters(source.backend, queue)
        self._jobs: dict[str, DelayedJob] = {}
        self._entries: dict[str, StreamEntry] = {}
        self._now = datetime.now(UTC)
        self._cursors = [""]  # of the pages up to this one
        self._more = False
        self._only: str | None = None  # the id that is searched for
        self._name: str | None = None
        self._dead = self._paused = False
        self._read = False  # the first page of what is shown has been read
        self._said = ""

    def compose(self) -> ComposeResult:
        yield Static(id="title", classes="bar")
        yield Static(id="figures")
        yield Static(id="tabs", classes="line")
        yield Rows(id="jobs", empty="")
        yield Static(id="status", classes="line")
        yield Static(id="keys", classes="bar")

    def on_mount(self) -> None:
        self.query_one(Rows).focus()
        self._source.show([self._queue.name])
        self.set_interval(self._source.refresh_s, self._again)
        self.reload()
        self._draw()

    def _again(self) -> None:
        if self.is_current and not self._paused:
            self.reload()
            self._draw()

    @work(exclusive=True, group="reload")
    async def reload(self) -> None:
        """Read the current page again."""
        try:
            if self._dead:
                entries = await self._letters.page(self._cursors[-1])
                self._entries = {entry.id: entry for entry in entries}
                self._more = len(entries) == self._letters.PAGE
            elif self._only is not None:
                found = await self._queue.get(self._only)
                self._jobs, self._more = self._keyed([] if found is None else [found]), False
            else:
                await self._load_jobs()
        except PromoterError as exc:
            self._said = output.shown(str(exc))
        else:
            self._read = True
            self._said = self._said if self._said.startswith(">") else ""
        self._draw()

    async def _load_jobs(self) -> None:
        cursor = self._cursors[-1]
        for _ in range(LOOKS):
            page = await self._queue.jobs(limit=PAGE, after=cursor, name=self._name)
            cursor, self._now = page.cursor, page.now
            if page.jobs or not cursor:
                break
        self._jobs, self._more, self._next = self._keyed(page.jobs), bool(cursor), cursor

    def _keyed(self, jobs: Sequence[DelayedJob]) -> dict[str, DelayedJob]:
        return {job.stored.handle.hex() or str(job.id): job for job in jobs}

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        rows = self.query_one(Rows)
        seen = next((queue for queue in self._source.state().queues if queue.name == self._queue.name), None)
        name = output.shown(self._queue.name)
        title = f" {name}   {'' if seen is None else details.leader(seen)}"
        self._put("#title", frame.fit(title, self.size.width))
        figures = details.figures(seen, self._source.probe(self._queue.name), self.size.width - 2)
        self._put("#figures", "\n".join(f" {line}" for line in figures))
        self._put("#tabs", frame.ruled(self._tab(), self.size.width))
        rows.empty = self._empty()
        if self._dead:
            rows.show(Letters.COLUMNS, [(id, False) for id in self._entries], self._letter_cells)
        else:
            rows.show(
                frame.columns(self.size.width, JOBS),
                [(key, job.malformed) for key, job in self._jobs.items()],
                self._job_cells,
            )
        trouble = output.shown(self._source.trouble())
        held = "paused: p resumes" if self._paused else ""
        self._put(
            "#status", " " + "   ".join(word for word in (held, trouble, self._said.lstrip("> ")) if word), "bold"
        )
        self._put("#keys", frame.fit(self._keys(), self.size.width))

    def _empty(self) -> str:
        """Return what the table says without rows."""
        if not self._read:
            return "not read yet"
        if self._dead:
            return "no dead letters" if len(self._cursors) == 1 else "no more dead letters"
        return "no waiting jobs" if self._only is None and self._name is None else "no waiting job matches"

    def _tab(self) -> str:
        page = f", page {len(self._cursors):,}" if len(self._cursors) > 1 or self._more else ""
        if self._dead:
            return f"dead letters{page}"
        if self._only is not None:
            return f"job {output.shown(self._only)} · / then enter: all jobs"
        if self._name is not None:
            return f"waiting jobs named {output.shown(self._name)}{page} · / then enter: all jobs"
        return f"waiting jobs, earliest first{page}"

    def _keys(self) -> str:
        words = ["↵ open", "d jobs"] if self._dead else ["↵ open", "/ find", "d dead letters"]
        words += (
            [] if self._read_only else ["r requeue", "x delete"] if self._dead else ["n run now", "t time", "x cancel"]
        )
        words += ["] next"] if self._more else []
        words += ["[ previous"] if len(self._cursors) > 1 else []
        return " " + "  ".join([*words, "esc back"])

    def _put(self, where: str, text: str, style: str = "") -> None:
        self.query_one(where, Static).update(Text(text, style=style, no_wrap=True, overflow="ellipsis", end=""))

    def _job_cells(self, key: str) -> tuple[str, ...]:
        job = self._jobs[key]
        id = "malformed" if job.malformed else "cannot be read" if job.id is None else output.shown(job.id)
        data = output.shown(jobs_of_cli.data_of(job)[:300])
        tries = [str(job.attempt)] if self.size.width >= JOBS[3].since else []
        return (jobs_of_cli.due_of(job, self._now), id, output.shown(job.name), *tries, data)

    def _letter_cells(self, id: str) -> tuple[str, ...]:
        return self._letters.cells(self._entries[id])

    def on_rows_opened(self, event: Rows.Opened) -> None:
        # The row may have gone since the key was pressed.
        if self._dead and (entry := self._entries.get(event.key)) is not None:
            self.app.push_screen(dialogs.Show(f"Dead letter {output.shown(entry.id)}", self._letters.text(entry)))
        elif not self._dead and (job := self._jobs.get(event.key)) is not None:
            self._open(job)

    @work(exclusive=True, group="ask")
    async def _open(self, job: DelayedJob) -> None:
        gone = False
        if job.id is not None:
            try:
                found = await self._queue.get(job.id)  # reads all details
                gone = found is None
            except PromoterError:
                found = None
            job = found if found is not None and found.stored.handle == job.stored.handle else job
        text = "It no longer waits. Its last known state:\n\n" if gone else ""
        title = f"Job of {output.shown(self._queue.name)}"
        await self.app.push_screen_wait(dialogs.Show(title, text + details.job(job, self._now)))

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._draw()

    def action_letters(self) -> None:
        self._dead = not self._dead
        self._to_first_page()

    def action_page(self, by: int) -> None:
        if by > 0 and self._more:
            self._cursors.append(list(self._entries)[-1] if self._dead else self._next)
        elif by < 0 and len(self._cursors) > 1:
            self._cursors.pop()
        else:
            return
        self._said = ""
        self.reload()

    def _to_first_page(self) -> None:
        self._cursors, self._said, self._more, self._read = [""], "", False, False
        self.reload()

    @work(exclusive=True, group="ask")
    async def action_find(self) -> None:
        if self._dead:
            return
        asked = dialogs.Ask("A job's id, or name=… for jobs with that name; empty: all jobs")
        if (text := await self.app.push_screen_wait(asked)) is None:
            return
        by_name = text.startswith("name=")
        self._name = text.removeprefix("name=") if by_name else None
        self._only = text if text and not by_name else None
        self._to_first_page()

    def action_run_now(self) -> None:
        self._act("Run now", self._queue.run_now)

    @work(exclusive=True, group="ask")
    async def action_reschedule(self) -> None:
        if (job := self._under_cursor()) is None:
            return
        question = f"New due time for {details.short(job, self._now)}: 5m, 1h30m, 2030-01-31T09:00:00Z"
        text = await self.app.push_screen_wait(dialogs.Ask(question, check=lambda text: parse_when(text).due()))
        if text is not None:
            due = parse_when(text).due()
            await self._confirmed(f"Due {text}", job, lambda job: self._queue.reschedule(job, **due))

    def action_remove(self) -> None:
        if self._dead:
            self._act_on_letter("Delete permanently", self._letters.delete)
        else:
            self._act("Cancel", self._queue.cancel)

    def action_requeue(self) -> None:
        if self._dead:
            self._act_on_letter("Requeue", self._letters.requeue)

    def _under_cursor(self) -> DelayedJob | None:
        """Return the job that an action applies to; None if actions are not allowed here."""
        key = self.query_one(Rows).key
        return None if self._read_only or self._dead or key is None else self._jobs.get(key)

    @work(exclusive=True, group="ask")
    async def _act(self, what: str, do: Callable[[DelayedJob], Awaitable[JobOutcome]]) -> None:
        if (job := self._under_cursor()) is not None:
            await self._confirmed(what, job, do)

    async def _confirmed(self, what: str, job: DelayedJob, do: Callable[[DelayedJob], Awaitable[JobOutcome]]) -> None:
        text = details.short(job, self._now)
        if not await self.app.push_screen_wait(dialogs.Confirm(f"{what}: {text}?")):
            return
        try:
            outcome = await do(job)
        except (PromoterError, JobError) as exc:
            self._said = f"> {output.shown(str(exc))}"
        else:
            words = OUTCOMES[outcome]
            if outcome is JobOutcome.MOVED and what == "Run now":
                words = "is due now, but not in the stream: the stream is full, or the job is malformed"
            self._said = f"> {text} {words}"
        self.reload()

    @work(exclusive=True, group="ask")
    async def _act_on_letter(self, what: str, do: Callable[[StreamEntry], Awaitable[str]]) -> None:
        entry = self._entries.get(self.query_one(Rows).key or "")
        if entry is None or self._read_only:
            return
        if not await self.app.push_screen_wait(dialogs.Confirm(f"{what}: dead letter {output.shown(entry.id)}?")):
            return
        try:
            said = await do(entry)
        except PromoterError as exc:
            said = str(exc)
        self._said = f"> {output.shown(said)}"
        self.reload()
