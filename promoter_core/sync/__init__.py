"""Promoter for code that blocks: Django, Flask, scripts, Celery tasks. The names, arguments, answers and errors are
those of `promoter_core`; the methods are made from the asynchronous ones.

    from promoter_core.sync import DelayedQueue, connect

    backend = connect("redis://localhost:6379")  # opened by the first call
    emails = DelayedQueue(backend, "emails")
    emails.schedule({"to": "ada@example.com"}, name="welcome", delay=300)

One event loop in a thread does the work for the whole process, so that connections to `memory://NAME` share a store.

- Any number of threads may call at the same time.
- A process that is forked later, as by `gunicorn --preload`, has its own loop and connections from its first call.
- KeyboardInterrupt, and whatever else a signal's handler raises, cancels the call that it interrupts.
- Where an event loop runs in the calling thread, and under gevent or eventlet, it raises ConfigError.
- At the end of the interpreter connections are closed, and calls under way in daemon threads end, within three seconds.
"""

from __future__ import annotations

from promoter_core.sync.connection import Connection, connect
from promoter_core.sync.queue import DelayedQueue, list_queues

__all__ = ["Connection", "DelayedQueue", "connect", "list_queues"]
