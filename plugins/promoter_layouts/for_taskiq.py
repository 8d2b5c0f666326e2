"""`message`: what taskiq's `kiq` would send, without sending it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from taskiq import AckableMessage, AsyncBroker, BrokerMessage


class _Outbox(AsyncBroker):
    """Makes messages as `broker` does, and keeps them."""

    def __init__(self, broker: AsyncBroker) -> None:
        super().__init__()
        self.id_generator, self.result_backend = broker.id_generator, broker.result_backend
        self.formatter, self.serializer, self.middlewares = broker.formatter, broker.serializer, broker.middlewares
        self.custom_dependency_context = broker.custom_dependency_context
        self.sent: list[bytes] = []

    async def kick(self, message: BrokerMessage) -> None:
        self.sent.append(message.message)

    async def listen(self) -> AsyncGenerator[bytes | AckableMessage, None]:
        for sent in self.sent:
            yield sent


async def message(task: Any, *args: Any, **kwargs: Any) -> bytes:
    """The message that `await task.kiq(*args, **kwargs)` sends, made by the task's broker and its middlewares.

    `task` is a task, or a `task.kicker()` with labels and an id of your choice. The queue to schedule it in is the
    broker's `queue_name`.
    """
    kicker = task.kicker() if hasattr(task, "kicker") else task
    outbox = _Outbox(kicker.broker)
    await kicker.with_broker(outbox).kiq(*args, **kwargs)
    (sent,) = outbox.sent
    return sent
