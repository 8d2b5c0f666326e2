"""SAQ's scheduled jobs: one set holds all unfinished jobs, with the score 0 once they are queued."""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options


def saq(early: str = "false") -> in_place.InPlace:
    """`early=true` moves a job at its score, which is a whole second."""
    return in_place.InPlace(
        name="saq",
        framework="SAQ",
        source="saq:{queue}:incomplete",
        score=in_place.Score.S,
        whole=not options.flag("saq", "early", early),
        floor="1",
        take=in_place.Take.RESCORE,
        moves=in_place.Pushes((in_place.Push("saq:{queue}:queued"),)),
        tested=("saq 0.26",),
        versions=("0.12", "0.27"),
        alike="saq:*:incomplete",
    )
