"""Ids in bulk: ULIDs that ascend, of the time at which they were made, and no two alike."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest
from ulid import ULID

from promoter_core.client.ulids import ULIDS, Ulids


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 5000])
def test_they_are_valid_ascend_and_are_of_the_time_at_which_they_are_made(count):
    before = time.time_ns() // 1_000_000
    made = ULIDS.take(count)
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == count
    assert made == sorted(made)
    parsed = [ULID.from_str(id) for id in made]
    assert [str(id) for id in parsed] == made
    assert {len(id) for id in made} <= {26}
    assert all(before <= id.milliseconds <= after for id in parsed)


def test_they_are_the_numbers_that_follow_one_another_wherever_the_last_digits_overflow():
    source = Ulids()
    for first in (0, 1, 1000, 1023, 2**40 - 700, (1 << 80) - 2000):
        source._ms, source._next = 5, first
        ids = source_take(source, 2000, 5)
        assert [int(ULID.from_str(id)) for id in ids] == list(range((5 << 80) + first, (5 << 80) + first + 2000))


def source_take(source, count, ms):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: ms * 1_000_000)
        return source.take(count)


def test_in_one_millisecond_they_ascend_from_call_to_call_and_others_begin_at_random():
    source = Ulids()
    made = [id for _ in range(50) for id in source_take(source, 3, 7)]
    assert made == sorted(set(made))
    assert {Ulids().take(1)[0][10:] for _ in range(50)}.__len__() == 50


def test_what_is_left_of_a_millisecond_may_be_too_little():
    source = Ulids()
    source._ms, source._next = 5, (1 << 80) - 1
    made = source_take(source, 3, 5)
    assert len(set(made)) == 3
    assert all(ULID.from_str(id).milliseconds == 5 for id in made)


def test_threads_get_different_ones():
    made: list[str] = []

    def take_all():
        for _ in range(200):
            made.extend(ULIDS.take(7))

    threads = [threading.Thread(target=take_all, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(made) == len(set(made)) == 8 * 200 * 7


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_a_fork_goes_on_with_others_even_if_it_comes_while_some_are_taken(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 5_000_000)
    ULIDS.take(1)
    read, write = os.pipe()
    with ULIDS._lock:  # as another thread would have it
        child = os.fork()
        if child == 0:
            try:
                os.write(write, ULIDS.take(1)[0].encode())
            finally:
                os._exit(0)
    theirs = os.read(read, 26).decode()
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    ours = ULIDS.take(1)[0]
    assert theirs[:10] == ours[:10]
    assert theirs[10:18] != ours[10:18]
    ULIDS.reset()
