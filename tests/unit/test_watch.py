"""The live view, driven by keys on a store in memory: what it shows, what it does, and what it never lets through."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager

import msgpack
import pytest

from tests.typed import untyped

pytest.importorskip("textual")

from promoter_core import DelayedQueue, Promoter, TransientError
from promoter_core.cli.live.app import KEYS, WatchApp
from promoter_core.cli.live.source import Source
from promoter_core.spi import JobRequest, StreamName, pack_envelope
from promoter_core.testing.faults import connection_lost
from promoter_memory.backend import MemoryBackend

HOUR_S = 3_600
HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]x[/red][@click=app.quit]y[/]\u202e\r\n"


def packed(id, data):
    return pack_envelope(id, msgpack.packb(data), 1, 0)


@pytest.fixture
async def store():
    backend = MemoryBackend()
    await backend.open()
    return backend


class View:
    """The program at 80 columns and 24 lines."""

    def __init__(self, app, pilot):
        self.app, self._pilot = app, pilot

    @property
    def lines(self):
        """What is on the screen."""
        widgets = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in widgets]

    @property
    def text(self):
        return "\n".join(self.lines)

    async def press(self, *keys):
        await self._pilot.press(*keys)
        await self._pilot.pause()

    async def until(self, text):
        """Wait until it is on the screen, or matches as a pattern."""
        for _ in range(400):
            if re.search(text, self.text):
                return
            await self._pilot.pause(0.02)
        pytest.fail(f"{text!r} is not seen:\n{self.text}")


@asynccontextmanager
async def viewing(backend, *patterns, size=(80, 24), read_only=False):
    source = Source(backend, patterns or ("*",), refresh_s=0.2)
    app = WatchApp(source, "memory://", read_only=read_only)
    async with source.running(), app.run_test(size=size) as pilot:
        yield View(app, pilot)


async def fill(store, queue, *ids, delay=HOUR_S, name="welcome", data=1):
    for id in ids:
        await DelayedQueue(store, queue).schedule(data, delay=delay, job_id=id, name=name)


async def waiting(store, queue="emails"):
    return [job.id async for job in DelayedQueue(store, queue).scan()]


async def test_a_table_of_queues_says_in_words_what_is_wrong(store):
    await fill(store, "emails", "a", "b")
    await fill(store, "sms", "c", delay=0)
    async with Promoter(store, "emails").running(), viewing(store) as view:
        await view.until("2 queues, 1 without a leader")
        await view.until(r"› emails +ok +2 +0 +1.0h")
        await view.until(r"! sms +no leader +1 +1 +-\d")
        assert all(len(line) <= 80 for line in view.lines)
        assert len(view.lines) == 24


async def test_below_it_is_the_future_of_one_queue_or_of_all(store):
    await fill(store, "a", "1", "2", delay=30)
    await fill(store, "a", "3", delay=7_200)
    await fill(store, "b", "4", delay=0)
    async with viewing(store) as view:
        await view.until("due in the next minute: a · 2 jobs, 1 later")
        await view.press("z")
        await view.until("due in the next hour: a · 2 jobs, 1 later")
        await view.press("z", "a")
        await view.until("due in the next day: 2 queues · 3 jobs, 0 later")
        await view.until(r"overdue │.*\n +1 │")
        await view.until("all queues: 1 overdue · due within 1 min: 2, 1 h: 2, 1 day: 3")
    async with viewing(store, size=(80, 10)) as view:
        await view.until("(?s)a +no leader .*b +no leader")
        assert "due in the next" not in view.text, "a low screen has the table alone"


async def test_queues_are_sorted_and_filtered_and_the_cursor_stays_on_its_queue(store):
    await fill(store, "mail-a", "1")
    await fill(store, "mail-b", "1", "2", "3")
    await fill(store, "sms", "1", "2")
    async with viewing(store) as view:
        await view.until("3 queues")
        await view.until("› mail-a")
        await view.press("home", "s", "s")
        await view.until("sort: delayed")
        assert re.findall(r"(?m)^[›! ] (mail-\w|sms)", view.text) == ["mail-b", "sms", "mail-a"]
        assert "› mail-a" in view.text
        await view.press("slash", *"mail-*", "enter")
        await view.until(r"filter: mail-\*")
        assert "sms " not in view.text


async def test_the_cursor_stays_at_the_top_until_it_is_moved(store):
    await fill(store, "m", "1")
    async with viewing(store) as view:
        await view.until("› m ")
        await fill(store, "a", "1")
        view.app._source._sampler._add("a", "*")  # as a search would, which waits for ten seconds
        await view.until("› a ")
        await view.press("down")
        await fill(store, "b", "1")
        view.app._source._sampler._add("b", "*")
        await view.until("[ !] b ")
        assert "› m " in view.text


async def test_a_queue_that_is_opened_shows_its_jobs_and_a_job_its_data(store):
    await fill(store, "emails", "a-1", data={"to": "ada@example.com"})
    async with viewing(store) as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("no leader: start `promoter run`")
        await view.until(r"› in \d+ min +a-1 +welcome +\{'to'")
        await view.press("enter")
        await view.until('"to": "ada@example.com"')
        await view.until("id is taken: yes; for 1 h after it ran")
        await view.press("escape", "escape")
        await view.until("promoter watch")


@pytest.mark.parametrize(
    ("key", "said", "left", "streamed"),
    [("n", "a-1 .* is in the stream now", ["b-2"], 1), ("x", "a-1 .* is cancelled", ["b-2"], 0)],
)
async def test_an_action_is_done_when_it_is_confirmed(key, said, left, streamed, store):
    await fill(store, "emails", "a-1")
    await fill(store, "emails", "b-2", delay=2 * HOUR_S)
    async with viewing(store, "emails") as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("› in .* a-1")
        await view.press(key)
        await view.until(r"job a-1 \(welcome\), in .*\?")
        await view.press("n")
        await view.until("waiting jobs, earliest first")
        assert await waiting(store) == ["a-1", "b-2"]
        await view.press(key, "y")
        await view.until(said)
        await view.until("› in .* b-2")
        assert await waiting(store) == left
        assert (await store.stats("emails")).stream_len == streamed


async def test_an_action_is_for_the_job_that_was_under_the_cursor_though_the_list_moves(store):
    await fill(store, "emails", "a-1", "b-2")
    async with viewing(store, "emails") as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("› in .* a-1")
        await view.press("x")
        await view.until("Cancel: job a-1")
        await DelayedQueue(store, "emails").cancel("a-1")
        await asyncio.sleep(0.5)
        await view.press("y")
        await view.until("a-1 .* no longer waits")
        assert await waiting(store) == ["b-2"]


async def test_a_job_gets_another_time_and_what_is_no_time_is_asked_again(store):
    await fill(store, "emails", "a-1")
    async with viewing(store, "emails") as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("› in .* a-1")
        await view.press("t", *"soon ish", "enter")
        await view.until("is not a time")
        await view.press(*["backspace"] * 8, *"2d", "enter")
        await view.until(r"Due 2d: job a-1")
        await view.press("y")
        await view.until("a-1 .* has a new due time")
        await view.until(r"› in (2 d|1 d 23 h)")


async def test_jobs_are_found_by_id_and_by_name(store):
    await fill(store, "emails", *(f"a-{i}" for i in range(30)))
    await fill(store, "emails", "needle", delay=9 * HOUR_S, name="invoice")
    async with viewing(store, "emails") as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("a-1 ")
        for text in ("needle", "name=invoice"):
            await view.press("slash", *text.replace("=", "="), "enter")
            await view.until("› in 8 h 59 min +needle")
            assert "a-1 " not in view.text
        await view.press("slash", *"nobody", "enter")
        await view.until("no waiting job matches")
        await view.press("slash", "enter")
        await view.until("waiting jobs, earliest first")


async def test_more_jobs_are_on_further_pages(store):
    for i in range(120):
        await fill(store, "emails", f"a-{i:03}", delay=HOUR_S + 60 * i)
    async with viewing(store, "emails") as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("page 1.*\n.*\n› .* a-000 ")
        await view.press("right_square_bracket")
        await view.until("page 2.*\n.*\n› .* a-100 ")
        await view.press("right_square_bracket")
        assert "page 2" in view.text, "there is no third one"
        await view.press("left_square_bracket")
        await view.until("page 1.*\n.*\n› .* a-000 ")


async def test_read_only_offers_nothing_that_changes_jobs(store):
    await fill(store, "emails", "a-1")
    async with viewing(store, read_only=True) as view:
        await view.until("read only")
        await view.until("› emails")
        await view.press("enter")
        await view.until("› in .* a-1")
        assert "cancel" not in view.text
        for key in ("n", "x", "t", "r"):
            await view.press(key)
            await asyncio.sleep(0.05)
            assert "waiting jobs, earliest first" in view.text
        assert await waiting(store) == ["a-1"]


async def test_hostile_names_and_data_are_shown_as_they_are_and_control_nothing(store):
    await store.schedule(
        "evil[b]", [JobRequest(id=HOSTILE, name=HOSTILE, envelope=packed(HOSTILE, HOSTILE), delay_ms=10**6)]
    )
    async with viewing(store) as view:
        await view.until(r"› evil\[b\]")
        await view.press("enter")
        await view.until(re.escape(r"\x1b[2J\x1b]0"))
        assert "\x1b" not in view.text
        assert "\u202e" not in view.text
        await view.press("enter")
        await view.until(re.escape(r"\x1b]0;owned\x07[red]x[/red]"))
        assert not set(view.text) & {"\x1b", "\x07", "\u202e", "\r"}
        await view.press("escape", "x")
        await view.until(re.escape("[@click"))


class Away:
    """A store that can be cut off."""

    def __init__(self, store):
        self.gone, self.backend = False, store
        for name in ("stats", "list_jobs", "count_jobs", "read"):
            setattr(store, name, self._cut(getattr(store, name)))

    def _cut(self, call):
        async def cut(*args, **kwargs):
            if self.gone:
                raise connection_lost()
            return await call(*args, **kwargs)

        return cut


async def test_a_server_that_goes_away_is_one_line_and_its_return_is_seen(store):
    away = Away(store)
    backend = away.backend
    await fill(store, "emails", "a-1")
    async with viewing(backend) as view:
        await view.until("› emails +no leader +1")
        away.gone = True
        await view.until(r"no answer for \d s, retrying: .*lost")
        assert "› emails" in view.text
        await view.press("enter")
        await view.until("waiting jobs")
        assert "not read yet" in view.text
        await view.press("d")
        await view.until("dead letters")
        assert "not read yet" in view.text, "nobody knows whether there is none"
        await view.press("d")
        away.gone = False
        await fill(store, "emails", "b-2")
        await view.until(r"delayed 2 ")
        assert "no answer" not in view.text


async def test_a_server_that_is_not_there_yet_is_waited_for(store):
    backend, tries = MemoryBackend(), []
    opened = backend.open

    async def open():
        tries.append(1)
        if len(tries) < 2:
            raise TransientError("cannot connect", code="CONNECTION")
        await opened()

    untyped(backend).open = open
    async with viewing(backend) as view:
        await view.until("retrying: cannot connect")
        await view.until("no queue has delayed jobs")
        assert view.app.error is None


async def test_keys_are_shown_and_explained(store):
    async with viewing(store) as view:
        assert view.lines[-1].endswith("? keys  q quit")
        await view.press("question_mark")
        await view.until("The columns")
        await view.press("pagedown")
        await view.until("escape   back")
        assert all(len(line) <= 76 for line in KEYS.split("\n")), "none is broken"
        await view.press("escape", "q")
        assert not view.app.is_running or view.app._exit


async def test_what_is_opened_while_the_list_becomes_another_one_is_let_go(store):
    go_on = asyncio.Event()

    class Slow(MemoryBackend):
        async def read(self, queue, stream, after, limit):
            if stream is StreamName.DLQ:
                await go_on.wait()
            return await super().read(queue, stream, after, limit)

    backend = Slow()
    await backend.open()
    await fill(backend, "emails", "a-1")
    async with viewing(backend) as view:
        await view.until("› emails")
        await view.press("enter")
        await view.until("› .*a-1")
        await view.press("d", "enter")  # the job is still on the screen
        go_on.set()
        await view.until("no dead letters")


async def test_dead_letters_are_put_back_or_deleted(store):
    letters: list[tuple[str, bytes]] = []

    class WithLetters(MemoryBackend):
        async def read(self, queue, stream, after, limit):
            from promoter_core.spi import StreamEntry

            if stream is not StreamName.DLQ:
                return await super().read(queue, stream, after, limit)
            fields = {"reason": b"malformed", "detail": b"\x1b[31m", "source_id": b"delayed"}
            found = [StreamEntry(id, fields | {"d": data}) for id, data in letters]
            return tuple(entry for entry in found if entry.id > after)[:limit]

        async def requeue_dead_letter(self, queue, entry_id, envelope, name):
            letters[:] = [letter for letter in letters if letter[0] != entry_id]
            return True

        async def delete_dead_letters(self, queue, entry_ids):
            before = len(letters)
            letters[:] = [letter for letter in letters if letter[0] not in entry_ids]
            return before - len(letters)

    backend = WithLetters()
    await backend.open()
    await fill(backend, "emails", "a-1")
    letters += [("1-1", b"no job"), ("2-1", packed("b", {"x": 1}))]
    async with viewing(backend) as view:
        await view.until("› emails")
        await view.press("enter", "d")
        await view.until(re.escape(r"› 1-1") + " +malformed +" + re.escape(r"\x1b[31m"))
        await view.press("r", "y")
        await view.until("1-1: it contains no readable job, so it stays")
        await view.press("x", "y")
        await view.until("1-1 is deleted")
        await view.until("› 2-1")
        await view.press("r", "y")
        await view.until("2-1 is in the stream")
        await view.until("no dead letters")
