"""Huey's schedule: pickled tasks go to the queue's list unchanged."""

from __future__ import annotations

from promoter_core.spi import ConfigError, Side, in_place


def huey(offset_s: str = "0") -> in_place.InPlace:
    """`offset_s` is how many seconds the workers' time zone is ahead of UTC, because their scores are local times."""
    try:
        offset = int(offset_s)
    except ValueError:
        offset = 100_000
    if abs(offset) > 14 * 3600:
        raise ConfigError(
            f"layout 'huey': offset_s must be the workers' seconds ahead of UTC, such as 32400, not {offset_s!r}"
        )
    return in_place.InPlace(
        name="huey",
        framework="Huey",
        source="huey.schedule.{queue}",
        score=in_place.Score.S,
        offset_s=offset,
        moves=in_place.Pushes((in_place.Push("huey.redis.{queue}", Side.LEFT),)),
        job_id="nil",
        tested=("huey 3.5",),
        versions=("2", "4"),
        alike="huey.schedule.*",
    )
