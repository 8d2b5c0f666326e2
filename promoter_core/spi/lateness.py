"""The lateness of promoted jobs, counted by bounds: a histogram that a store can compute without listing jobs."""

from __future__ import annotations

from collections.abc import Iterable

# Upper bounds of the buckets, in milliseconds.
LATENESS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 60_000)


def later_than(now_ms: int, dues_ms: Iterable[int]) -> tuple[int, ...]:
    """Count, for each bound of LATENESS_MS, the jobs with these due times that are later than it at `now_ms`.

    Trailing zeros are left out. For `Promotion.lateness_counts`, in a backend that knows the due times.
    """
    late_ms = [now_ms - due_ms for due_ms in dues_ms]
    counts: list[int] = []
    for bound_ms in LATENESS_MS:
        late_ms = [ms for ms in late_ms if ms > bound_ms]
        if not late_ms:
            break
        counts.append(len(late_ms))
    return tuple(counts)


def in_buckets(promoted: int, lateness_counts: tuple[int, ...]) -> list[int]:
    """Return how many jobs fall into each bucket: up to the first bound, up to the next, …, beyond the last."""
    beyond = [promoted, *lateness_counts, *[0] * (len(LATENESS_MS) - len(lateness_counts))]
    return [more - less for more, less in zip(beyond, [*beyond[1:], 0], strict=True)]


def sample_ms(promoted: int, lateness_counts: tuple[int, ...], at_most: int) -> list[int]:
    """Return about `at_most` lateness values in ms, distributed like those of all jobs, as upper bounds of buckets.

    For instruments that record one value at a time. Beyond the last bound, the value is twice that bound.
    """
    share = min(1.0, at_most / promoted)
    sample: list[int] = []
    for count, bound_ms in zip(in_buckets(promoted, lateness_counts), [*LATENESS_MS, LATENESS_MS[-1] * 2], strict=True):
        sample += [bound_ms] * -int(-count * share // 1)  # rounded up, so that a few late jobs are not lost
    return sample
