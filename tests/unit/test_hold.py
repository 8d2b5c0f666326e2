"""`hold`: a virtual clock does not run ahead of a thread."""

from __future__ import annotations

import asyncio
import threading

from promoter_core.spi import SystemClock, hold
from promoter_core.testing import VirtualClock


async def work(clock, *, held):
    """The virtual seconds that pass while a thread works, and something else sleeps for an hour."""
    sleeping, done = asyncio.ensure_future(clock.sleep(3600)), threading.Event()
    asyncio.get_running_loop().call_later(0.02, done.set)
    began_s = clock.monotonic()
    if held:
        with hold(clock):
            await asyncio.to_thread(done.wait)
    else:
        await asyncio.to_thread(done.wait)
    took_s = clock.monotonic() - began_s
    await sleeping
    return took_s


async def test_a_held_virtual_clock_stands_still_while_a_thread_works():
    assert await work(VirtualClock(), held=True) == 0
    assert await work(VirtualClock(), held=False) == 3600  # so there is something to hold


async def test_other_clocks_are_not_held():
    with hold(SystemClock()) as nothing:
        assert nothing is None
