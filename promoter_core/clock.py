"""The real clock. Everything that waits takes a `Clock`, so that tests can run years in milliseconds."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Implements `promoter_core.contracts.Clock` with the machine's clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
