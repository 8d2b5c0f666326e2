"""Layouts whose due jobs go to other consumers. `key` is the target; {queue} in it stands for the queue's name."""

from __future__ import annotations

from promoter_core.spi import CHASQUIMQ, ConfigError, Layout, Part, Side, ToList, ToStream, outward

KEY = "{queue}"
FASTSTREAM, TASKIQ, CELERY = "faststream 0.7", "taskiq-redis 1.1", "celery 5.7"


def chasqui() -> Layout:
    return CHASQUIMQ


def stream(key: str = KEY, field: str = "data", id_field: str = "", name_field: str = "") -> Layout:
    """Entries with the payload in `field`, and with the job's id and name where these have a field."""
    if not field:
        raise ConfigError("layout 'stream': field must be the name of the payload's field, such as data")
    named = ((field, Part.PAYLOAD), (id_field, Part.ID), (name_field, Part.NAME))
    return outward("stream", ToStream(tuple((name, part) for name, part in named if name)), key=key)


def to_list(key: str = KEY, side: str = "right") -> Layout:
    """Elements that are payloads. Consumers pop on the other side."""
    if side not in tuple(Side):
        raise ConfigError(f"layout 'list': side must be left or right, not {side!r}")
    return outward("list", ToList(Side(side)), key=key)


def faststream(key: str = KEY) -> Layout:
    move = ToStream((("__data__", Part.PAYLOAD),))
    return outward("faststream", move, key=key, serializer="json", tested=(FASTSTREAM,))


def faststream_list(key: str = KEY) -> Layout:
    return outward("faststream-list", ToList(Side.RIGHT), key=key, serializer="json", tested=(FASTSTREAM,))


def taskiq(key: str = KEY) -> Layout:
    return outward("taskiq", ToStream((("data", Part.PAYLOAD),)), key=key, tested=(TASKIQ,))


def taskiq_list(key: str = KEY) -> Layout:
    return outward("taskiq-list", ToList(Side.LEFT), key=key, tested=(TASKIQ,))


def celery(key: str = KEY) -> Layout:
    return outward("celery", ToList(Side.LEFT), key=key, tested=(CELERY,))
