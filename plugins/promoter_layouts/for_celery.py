"""`apply_async`, which schedules a Celery task with Promoter's delay, and `message`, which returns what it sends."""

from __future__ import annotations

import queue as queues
from bisect import bisect
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from celery.canvas import Signature, chord, group
from kombu.connection import Connection
from kombu.transport import virtual
from kombu.utils import json

from promoter_core.spi import ConfigError
from promoter_layouts.delivering import Delay, Schedules, check_target
from promoter_layouts.outward import SEPARATOR, STEPS, celery

Answer = TypeVar("Answer")

WHEN = ("countdown", "eta")
ELSEWHERE = ("connection", "producer", "publisher")  # options that select another broker


def apply_async(
    queue: Schedules[Answer],
    task: Any,
    /,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    countdown: Delay | None = None,
    eta: datetime | None = None,
    task_id: str | None = None,
    **options: Any,
) -> Answer:
    """Schedule a task or a signature in `queue`, as `task.apply_async(args, kwargs, …)` would send it.

    Takes the same options. `countdown` (seconds or a timedelta) and `eta` (a datetime with a time zone) say when the
    message goes to the worker; with neither, it is due now. The job's id is the task's, so `queue.cancel(task_id)`
    cancels it while it waits. `expires` in seconds counts from now, as in Celery. The queue can be that of
    `promoter_core`, whose answer is awaited, or of `promoter_core.sync`.

    Raises ConfigError for unsupported calls: a queue whose target is not the task's route or has another priority;
    groups and chords, which are several messages; a task with `task_always_eager`.
    """
    sent_to, sent = _sent(task, args, kwargs, task_id=task_id, **options)
    headers, (key, hint) = sent["headers"], _list_of(task, sent_to, sent)
    check_target(queue, [celery()], f"a worker for the task {headers['task']}", key, hint)
    return queue.schedule(_text(sent), delay=countdown, at=eta, job_id=headers["id"])


def message(
    task: Any, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
) -> bytes:
    """Return the message that `task.apply_async(args, kwargs, **options)` puts into the queue of the task's route.

    Schedule it in the queue of that name. Raises ConfigError for `countdown` and `eta`: Promoter applies the delay, and
    a worker would delay the task a second time. Otherwise raises the errors of `apply_async`.
    """
    return _text(_sent(task, args, kwargs, **options)[1])


class _Channel(virtual.Channel):
    """Keeps what is put into a queue, instead of pushing it to a list."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        self.connection.sent.append((queue, message))

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
        self.sent: list[tuple[str, dict[str, Any]]] = []
        super().__init__(client, **more)  # type: ignore[no-untyped-call]


def _sent(task: Any, args: Any, kwargs: Any, **options: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a queue, and the message that goes there. Raises ConfigError."""
    if given := [name for name in WHEN if options.get(name) is not None]:
        raise ConfigError(f"message takes no {given[0]}=: give the delay to schedule(…) instead")
    if given := [name for name in ELSEWHERE if options.pop(name, None) is not None]:
        raise ConfigError(f"{given[0]}= says where to send a task, and this one goes to the queue that is given")
    first = _first(task)
    if isinstance(first, str):
        raise ConfigError(f"give the task itself, or app.signature({first!r}), instead of its name")
    if isinstance(first, group | chord):
        raise ConfigError(
            f"{first} is several messages, which a delay cannot hold together: schedule a task that calls it"
        )
    name = getattr(first, "task", None) or getattr(first, "name", None) or first
    if first.app.conf.task_always_eager:
        raise ConfigError(f"the task {name} has nothing to wait for with task_always_eager: call it without a delay")
    connect: Any = Connection
    with connect(transport=_Transport) as connection:
        task.apply_async(args, kwargs, connection=connection, **options)
        sent = connection.transport.sent
    if len(sent) != 1:
        where = ", ".join(sorted(queue for queue, _ in sent)) or "no queue"
        raise ConfigError(f"the task {name} is sent to {where}: expected one queue")
    if sent[0][1]["headers"].get("eta") is not None:
        raise ConfigError(
            f"the task {name} has a countdown= or an eta= in its own options: give it to the call instead"
        )
    return sent[0][0], sent[0][1]


def _first(task: Any) -> Any:
    """Return the part of a signature that is sent first: of a chain, its first task."""
    while (
        isinstance(task, Signature) and (tasks := getattr(task, "tasks", None)) and not isinstance(task, group | chord)
    ):
        task = tasks[0]
    return task


def _text(sent: Mapping[str, Any]) -> bytes:
    dumps: Any = json.dumps
    return str(dumps(sent)).encode()


def _list_of(task: Any, queue: str, sent: Mapping[str, Any]) -> tuple[str, str]:
    """Return the list to which kombu's Redis transport pushes a message for `queue`, and how to deliver there."""
    options = _first(task).app.conf.broker_transport_options or {}
    steps = sorted(options.get("priority_steps") or STEPS)
    separator, prefix = options.get("sep", SEPARATOR), options.get("global_keyprefix", "")
    try:
        priority = min(max(int(sent["properties"]["priority"]), 0), 9)
    except (KeyError, TypeError, ValueError):
        priority = 0
    step = steps[bisect(steps, priority) - 1]
    suffix = f"{separator}{step}" if step else ""
    layout = "celery"
    if prefix or suffix not in (f"{SEPARATOR}{own}" if own else "" for own in STEPS):
        layout = f"celery:key={prefix}{{queue}}{suffix}"
    elif suffix:
        layout = f"celery:priority={step}"
    return f"{prefix}{queue}{suffix}", f"schedule in the queue {queue!r} with layout={layout!r}"
