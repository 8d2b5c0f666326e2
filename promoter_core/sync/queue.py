"""`DelayedQueue` and `list_queues` for blocking code.

They are generated at import from the asynchronous ones. A test compares the type stub beside this file with them:
`python -m tests.unit.sync_stub --write`.
"""

from __future__ import annotations

from promoter_core.client import queue, queues
from promoter_core.sync.blocking import BlockingQueue, blocking_function, make_blocking


@make_blocking(queue.DelayedQueue)
class DelayedQueue(BlockingQueue):
    pass


list_queues = blocking_function(queues.list_queues)
