"""`PushChannel`: connects, says that something may have been missed, hands on, backs off, ends in bounded time."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from promoter_core.spi import PermanentError, PushChannel

FAST = (0.001, 0.005)


class Store:
    """What a channel listens to. Each connection lasts until it is cut."""

    def __init__(self):
        self.connections = self.ended = self.missed = 0
        self.away: Exception | None = None
        self.hangs = False
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.heard = []

    async def listen(self, connected):
        if self.away is not None:
            raise self.away
        self.connections += 1
        try:
            if self.hangs:
                await asyncio.sleep(60)
            connected()
            while (message := await self.messages.get()) is not None:
                self.heard.append(message)
            raise ConnectionResetError("cut")
        finally:
            self.ended += 1

    def count_missed(self):
        self.missed += 1


@pytest.fixture
def store():
    return Store()


@pytest.fixture
async def channel(store):
    channel = PushChannel(store.listen, store.count_missed, name="listening to the store", retry_s=FAST, connect_s=0.02)
    yield channel
    await channel.stop()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_it_hears_once_started_and_hands_messages_on(store, channel):
    assert not channel.hears
    await channel.start()
    assert channel.hears
    assert store.missed == 1, "what was written while nobody listened"
    store.messages.put_nowait("a")
    await until(lambda: store.heard == ["a"])
    await channel.start()
    assert store.connections == 1


async def test_it_reconnects_and_says_each_time_that_something_was_missed(store, channel):
    await channel.start()
    for n in range(2, 5):
        missed = store.missed
        store.messages.put_nowait(None)
        await until(lambda n=n: store.connections == n and channel.hears)
        assert store.missed == missed + 2, "when it was lost, and when it was back"
    assert store.ended == 3


async def test_while_the_store_is_away_it_is_deaf_and_logs_one_line(store, channel, caplog):
    caplog.set_level(logging.INFO, "promoter")
    store.away = ConnectionRefusedError("nobody there")
    await channel.start()
    assert not channel.hears
    tries = store.missed
    await until(lambda: store.missed > tries + 5)
    assert [r.getMessage() for r in caplog.records] == ["listening to the store is interrupted: nobody there"]
    store.away = None
    await until(lambda: channel.hears)
    store.messages.put_nowait(None)
    await until(lambda: store.connections == 2)
    assert len(caplog.records) == 2, "a line for the next outage"


async def test_what_is_refused_for_good_is_warned_of_and_left_alone_for_minutes(store, channel, caplog):
    store.away = PermanentError("no permission", code="NOPERM")
    await channel.start()
    await asyncio.sleep(0.05)
    assert store.missed == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "listening to the store is refused, and tried again in 300 s: no permission"


async def test_a_connection_that_does_not_come_is_given_up(store, channel):
    store.hangs = True
    await channel.start()
    assert not channel.hears
    await until(lambda: store.ended >= 2)
    store.hangs = False
    await until(lambda: channel.hears)


async def test_one_that_hears_is_given_all_the_time(store, channel):
    await channel.start()
    await asyncio.sleep(0.06)  # longer than an attempt may take
    assert channel.hears
    assert store.connections == 1


async def test_who_starts_it_need_not_wait_for_the_first_attempt(store):
    store.hangs = True
    channel = PushChannel(store.listen, store.count_missed, name="slow", connect_s=None)
    async with asyncio.timeout(5):
        await channel.start(0.01)
    assert not channel.hears
    await channel.stop()
    assert store.ended == 1


async def test_reconnect_gives_up_the_present_connection_without_a_word(store, channel, caplog):
    caplog.set_level(logging.INFO, "promoter")
    await channel.start()
    channel.reconnect()
    assert not channel.hears, "at once"
    await until(lambda: store.connections == 2 and channel.hears)
    assert caplog.records == []
    channel.reconnect(after_s=60)
    await until(lambda: store.ended == 2)
    await asyncio.sleep(0.05)
    assert store.connections == 2


async def test_the_author_may_be_told_of_failures_instead(store):
    told = []
    store.away = OSError("away")
    channel = PushChannel(
        store.listen, store.count_missed, name="x", retry_s=FAST, failed=lambda exc, n: told.append((str(exc), n))
    )
    await channel.start()
    await until(lambda: len(told) >= 3)
    await channel.stop()
    assert told[:3] == [("away", 0), ("away", 1), ("away", 2)]


async def test_it_ends_in_bounded_time_and_may_be_started_again(store, channel):
    await channel.start()
    await channel.stop()
    assert (channel.hears, store.ended) == (False, 1)
    await channel.stop()
    await channel.start()
    assert channel.hears


async def test_one_that_swallows_its_cancellation_ends_all_the_same():
    swallowed = []

    async def listen(connected):
        connected()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append(1)

    channel = PushChannel(listen, lambda: None, name="stubborn", retry_s=FAST)
    await channel.start()
    async with asyncio.timeout(5):
        await channel.stop()
    await asyncio.sleep(0.02)
    assert swallowed == [1]
    assert not channel.hears
