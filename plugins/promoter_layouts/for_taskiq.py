"""`schedule`, which kicks a taskiq task after a delay, and `message`, which returns what `kiq` would send."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from datetime import datetime
from typing import Any, TypeVar

from taskiq import AckableMessage, AsyncBroker, BrokerMessage

from promoter_core.spi import ConfigError
from promoter_layouts.delivering import Delay, Schedules, check_target
from promoter_layouts.outward import taskiq, taskiq_list

Answer = TypeVar("Answer")

DELAY = "delay"  # the label with a task's delay in seconds


async def schedule(
    queue: Schedules[Awaitable[Answer]],
    task: Any,
    /,
    *args: Any,
    delay: Delay | None = None,
    at: datetime | None = None,
    **kwargs: Any,
) -> Answer:
    """Schedule a task in `queue`, as `await task.kiq(*args, **kwargs)` would send it.

    `task` is a task, or a `task.kicker()` with your own labels and id. `delay` is seconds or a timedelta, `at` a
    datetime with a time zone. With neither, the label `delay` applies, and without that, the task is due now. The job's
    id is the task's, so `queue.cancel(task_id)` cancels it while it waits. For a task with arguments named `delay` or
    `at`, use `message`.

    Raises ConfigError when the task's broker does not read where due jobs of `queue` go.
    """
    broker, sent = await _sent(task, *args, **kwargs)
    _check(queue, broker, sent)
    if delay is None and at is None and (label := sent.labels.get(DELAY)) is not None:
        try:
            delay = float(label)
        except (TypeError, ValueError):
            raise ConfigError(
                f"the label {DELAY} of the task {sent.task_name} is no number of seconds: {label!r}"
            ) from None
    return await queue.schedule(sent.message, delay=delay, at=at, job_id=sent.task_id)


async def message(task: Any, *args: Any, **kwargs: Any) -> bytes:
    """Return the message that `await task.kiq(*args, **kwargs)` sends, made by the task's broker and its middlewares.

    `task` is a task, or a `task.kicker()` with your own labels and id. Schedule the message in the queue named by the
    broker's `queue_name`.
    """
    return (await _sent(task, *args, **kwargs))[1].message


class _Outbox(AsyncBroker):
    """Makes messages like `broker`, and keeps them."""

    def __init__(self, broker: AsyncBroker) -> None:
        super().__init__()
        self.id_generator, self.result_backend = broker.id_generator, broker.result_backend
        self.formatter, self.serializer, self.middlewares = broker.formatter, broker.serializer, broker.middlewares
        self.custom_dependency_context = broker.custom_dependency_context
        self.sent: list[BrokerMessage] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.sent.append(message)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        for sent in self.sent:
            yield sent.message


async def _sent(task: Any, *args: Any, **kwargs: Any) -> tuple[AsyncBroker, BrokerMessage]:
    kicker = task.kicker() if hasattr(task, "kicker") else task
    broker = kicker.broker
    outbox = _Outbox(broker)
    try:
        await kicker.with_broker(outbox).kiq(*args, **kwargs)
    finally:
        kicker.with_broker(broker)
    (sent,) = outbox.sent
    return broker, sent


def _check(queue: Schedules[Any], broker: AsyncBroker, sent: BrokerMessage) -> None:
    """Raise ConfigError unless the broker reads the target. Brokers outside taskiq-redis are not checked."""
    kinds = [cls.__name__ for cls in type(broker).__mro__ if cls.__module__.startswith("taskiq_redis.")]
    if not kinds:
        return
    reader = f"the broker {type(broker).__name__}"
    if any("PubSub" in kind for kind in kinds):
        raise ConfigError(f"{reader} reads a channel, to which nothing can be delivered: use a stream or a list broker")
    fits = taskiq() if any("Stream" in kind for kind in kinds) else taskiq_list()
    name = sent.labels.get("queue_name") or getattr(broker, "queue_name", None)
    also = getattr(broker, "additional_streams", None) or {}
    layout = queue.layout
    if layout is not None and layout.keys_of(queue.name).stream.decode() in also:
        name = None
    check_target(queue, [fits], reader, name)
