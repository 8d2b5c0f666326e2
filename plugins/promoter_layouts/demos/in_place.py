"""A framework whose own delayed jobs Promoter moves: its worker is the same with and without a promoter."""

from __future__ import annotations

from datetime import datetime
from typing import Any


class InPlace:
    """The common part of the demos of layouts in place."""

    own = "its workers"
    note = "Both rows have the same worker, as it is by default; the second has a promoter at its database."
    whole = False
    lead_s = 2.0

    async def delay(self, number: int, due: datetime) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        pass

    async def hand_over(self, queue: Any, number: int, due: datetime) -> None:
        await self.delay(number, due)
