"""Times and durations as people write them on the command line."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promoter_core import JobError
from promoter_core.cli import times
from promoter_core.cli.times import When, parse_duration, parse_step, parse_when
from tests.typed import present

NOW_MS = 1_800_000_000_000
words = pytest.mark.skipif(find_spec("dateparser") is None, reason="dateparser is not installed")


@pytest.mark.parametrize(
    ("text", "delay"),
    [
        ("now", timedelta()),
        ("5m", timedelta(minutes=5)),
        ("in 5m", timedelta(minutes=5)),
        ("+1h", timedelta(hours=1)),
        ("in 1h30m", timedelta(minutes=90)),
        (" In  1h 30m ", timedelta(minutes=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("in 2 days", timedelta(days=2)),
        ("1 hour and 5 minutes", timedelta(minutes=65)),
        ("3 weeks, 2 days", timedelta(days=23)),
        ("10 seconds", timedelta(seconds=10)),
        ("2h ago", timedelta(hours=-2)),
        ("2 hours ago", timedelta(hours=-2)),
    ],
)
def test_a_time_from_now_goes_by_the_stores_clock(text, delay):
    when = parse_when(text)
    assert when == When(delay=delay)
    assert when.moment(NOW_MS) == datetime.fromtimestamp(NOW_MS / 1000, UTC) + delay


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2030-01-31T09:00:00Z", datetime(2030, 1, 31, 9, tzinfo=UTC)),
        ("2030-01-31 09:00+02:00", datetime(2030, 1, 31, 7, tzinfo=UTC)),
        ("20300131T090000Z", datetime(2030, 1, 31, 9, tzinfo=UTC)),
        ("2030-W05-4T09:00Z", datetime(2030, 1, 31, 9, tzinfo=UTC)),
    ],
)
def test_iso_8601_is_read_with_any_library_or_none(text, at):
    assert parse_when(text) == When(at=at)


@pytest.mark.parametrize("text", ["2030-01-31T09:00:00", "2030-01-31", "20300131"])
def test_iso_8601_without_a_zone_is_refused(text):
    with pytest.raises(JobError, match="no time zone"):
        parse_when(text)


@pytest.mark.parametrize(
    "text", ["", " ", "soon-ish", "5", "30", "12/11/2030 09:00", "1.2.2030", "2030-13-45", "5x", "in", "ago", "\x00"]
)
def test_what_is_no_time_or_more_than_one_is_refused(text):
    with pytest.raises(JobError, match="not a time|is ambiguous"):
        parse_when(text)


def test_words_need_dateparser_and_the_error_says_so():
    with mock.patch.object(times, "find_spec", return_value=None):
        with pytest.raises(JobError, match=r"promoter-core\[dates\]"):
            parse_when("tomorrow 09:00")


@pytest.fixture
def zone():
    with mock.patch.dict(os.environ, TZ="America/Los_Angeles"):
        time.tzset()
        yield
    time.tzset()


@words
def test_words_are_read_in_the_zone_of_the_machine(zone):
    when = parse_when("tomorrow 09:00")
    assert when.in_words
    assert when.at
    assert when.at.date() == (datetime.now(UTC).astimezone() + timedelta(days=1)).date()
    assert (when.at.hour, when.at.minute) == (9, 0)
    assert when.at.utcoffset() in (timedelta(hours=-8), timedelta(hours=-7))
    assert present(parse_when("noon tomorrow UTC").at).utcoffset() == timedelta()


@words
def test_a_weekday_is_the_next_one(zone):
    now = datetime.now(UTC)
    for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"):
        at = present(parse_when(f"{day} 15:53").at)
        assert now < at < now + timedelta(days=8)
        assert at.strftime("%A").lower() == day


@words
def test_what_was_understood_is_told_and_the_past_is_no_due_time(capsys):
    due = parse_when("tomorrow 09:00").due()
    assert list(due) == ["at"]
    assert "understood as" in capsys.readouterr().err
    with pytest.raises(JobError, match="has passed"):
        parse_when("yesterday 09:00").due()


def test_a_due_time_is_no_time_ago():
    with pytest.raises(JobError, match="in the past"):
        parse_when("5m ago").due()
    assert parse_when("5m").due() == {"delay": timedelta(minutes=5)}


def test_a_step_goes_either_way():
    assert (parse_step("1h"), parse_step("+1h"), parse_step("-30m")) == (
        timedelta(hours=1),
        timedelta(hours=1),
        timedelta(minutes=-30),
    )
    for text in ("-", "--1h", "soon"):
        with pytest.raises(JobError):
            parse_step(text)


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_joberror(text):
    for parse in (parse_when, parse_duration):
        with contextlib.suppress(JobError):
            parse(text)


def test_a_time_far_away_is_out_of_range():
    with pytest.raises(JobError, match="out of range"):
        parse_when("999999w").moment(NOW_MS)
