"""Promoter for blocking code: Django, Flask, scripts, Celery tasks.

Names, arguments, answers and errors are those of `promoter_core`; the methods are generated from the asynchronous ones.

    from promoter_core.sync import DelayedQueue, connect

    backend = connect("redis://localhost:6379")  # opened by the first call
    emails = DelayedQueue(backend, "emails")
    emails.schedule({"to": "ada@example.com"}, name="welcome", delay=300)

One event loop in a thread does the work for the whole process, so connections to `memory://NAME` share a store.

- Any number of threads can call at the same time.
- A process that is forked later, as by `gunicorn --preload`, gets its own loop and connections on its first call.
- KeyboardInterrupt, and any other exception of a signal handler, cancels the call that it interrupts.
- If an event loop runs in the calling thread, and under gevent or eventlet, it raises ConfigError.
- At the end of the interpreter, connections are closed, and pending calls in daemon threads end, within three seconds.
"""

from __future__ import annotations

from promoter_core.sync.connection import Connection, connect
from promoter_core.sync.queue import DelayedQueue, list_queues

__all__ = ["Connection", "DelayedQueue", "connect", "list_queues"]
