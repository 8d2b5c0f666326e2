"""`DelayedQueue` and `list_queues` for code that blocks.

They are made at import from the asynchronous ones. Their type stub is beside this file, and a test holds it to them:
`python -m tests.unit.sync_stub --write`.
"""

from __future__ import annotations

from promoter_core.client import queue, queues
from promoter_core.sync.blocking import BlockingQueue, blocking_function, make_blocking


@make_blocking(queue.DelayedQueue)
class DelayedQueue(BlockingQueue):
    pass


list_queues = blocking_function(queues.list_queues)
