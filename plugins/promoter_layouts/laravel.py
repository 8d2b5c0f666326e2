"""Laravel's delayed jobs: payloads go to their queue's list, with a notification for blocking workers."""

from __future__ import annotations

from promoter_core.spi import in_place
from promoter_layouts import options


def laravel(prefix: str = "", cluster: str = "false", early: str = "false") -> in_place.InPlace:
    """`prefix` is REDIS_PREFIX. `cluster=true` is for queues whose names have braces, as `{default}`."""
    name = "{{queue}}" if options.flag("laravel", "cluster", cluster) else "{queue}"
    key = f"{options.prefix('laravel', prefix)}queues:{name}"
    return in_place.InPlace(
        name="laravel",
        framework="Laravel",
        source=f"{key}:delayed",
        score=in_place.Score.S,
        whole=not options.flag("laravel", "early", early),
        moves=in_place.Pushes((in_place.Push(key), in_place.Push(f"{key}:notify", value="1"))),
        job_id='string.match(member, \'"uuid"%s*:%s*"([^"]*)"\')',
        tested=("laravel 8.83",),
        versions=("8", "14"),
        alike="*queues:*:delayed",
    )
