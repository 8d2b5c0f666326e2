"""`message`: what Celery's `apply_async` would send to a Redis broker, without sending it."""

from __future__ import annotations

import queue as queues
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils import json

from promoter_core.spi import ConfigError

WHEN = ("countdown", "eta")


class _Channel(virtual.Channel):
    """Keeps what is put into a queue, as text, where that of the Redis transport pushes it to a list."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        dumps: Any = json.dumps
        self.connection.sent.append((queue, dumps(message)))

    def _get(self, queue: str, timeout: float | None = None) -> NoReturn:
        raise queues.Empty

    def _purge(self, queue: str) -> int:
        return 0

    def _size(self, queue: str) -> int:
        return 0


class _Transport(virtual.Transport):
    Channel = _Channel
    global_state = None

    def __init__(self, client: Any, **more: Any) -> None:
        state: Any = virtual.BrokerState
        self.global_state = state()
        self.sent: list[tuple[str, str]] = []
        super().__init__(client, **more)  # type: ignore[no-untyped-call]


def message(task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> bytes:
    """The message that `task.apply_async(args, kwargs, **options)` puts into the queue that the task is routed to.

    Schedule it in the queue of that name. Raises ConfigError for `countdown` and `eta`: the delay is that of the
    schedule, and a worker would hold the task back a second time.
    """
    if given := [name for name in WHEN if options.get(name) is not None]:
        raise ConfigError(f"message takes no {given[0]}=: give the delay to schedule(…) instead")
    connect: Any = Connection
    with connect(transport=_Transport) as connection:
        task.apply_async(args, kwargs, connection=connection, **options)
        sent = connection.transport.sent
    if len(sent) != 1:
        where = ", ".join(sorted(queue for queue, _ in sent)) or "no queue"
        raise ConfigError(f"the task {task.name} is sent to {where}: expected one queue, and no task_always_eager")
    return str(sent[0][1]).encode()
