"""Layouts whose due jobs go to other consumers. `key` is the target; {queue} in it stands for the queue's name."""

from __future__ import annotations

from dataclasses import replace

from promoter_core.spi import CHASQUIMQ, ConfigError, Layout, Part, Side, ToList, ToStream, outward

KEY = "{queue}"
STEPS, SEPARATOR = (0, 3, 6, 9), "\x06\x16"  # kombu's lists for priorities
FASTSTREAM, TASKIQ, CELERY = "faststream 0.7", "taskiq-redis 1.1", "celery 5.7"


def chasqui() -> Layout:
    return CHASQUIMQ


def stream(key: str = KEY, field: str = "data", id_field: str = "", name_field: str = "") -> Layout:
    """Add entries with the payload in `field`, and with the job's id and name if these have a field."""
    if not field:
        raise ConfigError("layout 'stream': field must be the name of the payload's field, such as data")
    named = ((field, Part.PAYLOAD), (id_field, Part.ID), (name_field, Part.NAME))
    return outward("stream", ToStream(tuple((name, part) for name, part in named if name)), key=key)


def to_list(key: str = KEY, side: str = "right") -> Layout:
    """Push payloads to a list. Consumers pop from the other side."""
    if side not in tuple(Side):
        raise ConfigError(f"layout 'list': side must be left or right, not {side!r}")
    return outward("list", ToList(Side(side)), key=key)


def faststream(key: str = KEY) -> Layout:
    move = ToStream((("__data__", Part.PAYLOAD),))
    return outward("faststream", move, key=key, serializer="faststream", tested=(FASTSTREAM,))


def faststream_list(key: str = KEY) -> Layout:
    return outward("faststream-list", ToList(Side.RIGHT), key=key, serializer="faststream", tested=(FASTSTREAM,))


def taskiq(key: str = KEY) -> Layout:
    return outward("taskiq", ToStream((("data", Part.PAYLOAD),)), key=key, tested=(TASKIQ,))


def taskiq_list(key: str = KEY) -> Layout:
    return outward("taskiq-list", ToList(Side.LEFT), key=key, tested=(TASKIQ,))


def celery(key: str = "", priority: str = "0") -> Layout:
    """Deliver to the list of a Celery queue, or of one of its priorities.

    The names of the waiting jobs' keys contain it.

    Lists are those of kombu's Redis transport with its default `priority_steps` and `sep`; use `key` for all others.
    """
    if priority not in (*"0123456789",):
        raise ConfigError(f"layout 'celery': priority must be a number from 0 to 9, not {priority!r}")
    step = max(step for step in STEPS if step <= int(priority))
    if key and step:
        raise ConfigError("layout 'celery': give either key= or priority=, for a priority has a separate list")
    layout = outward("celery", ToList(Side.LEFT), key=key or KEY, tested=(CELERY,))
    if not step:
        return layout
    return replace(layout, start=b"promoter-celery-%d:{" % step, target=f"{KEY}{SEPARATOR}{step}")
