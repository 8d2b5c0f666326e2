"""Jobs of other frameworks in a test's queue, and what is in the store afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess

QUEUE = "mail"
OURS = b"promoter-in-place:"


def url_of(server, db=0):
    return f"{server.url}/{db}"


def jobs(count, name="j", **when):
    """Jobs that are due `in` seconds after a whole second soon from now, or at the time `due`."""
    return [{"id": f"{name}{i}", "in": 0, "value": i} | when for i in range(count)]


async def produced(framework, server, some):
    """The time from which `in` counts."""
    return await asyncio.to_thread(framework.produce, url_of(server), QUEUE, some)


@contextlib.contextmanager
def running(*processes):
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# What a promotion writes and a move of theirs does not, or with another time in it.
PASSING = {
    "rq": lambda key, value: value | {b"enqueued_at": len(value[b"enqueued_at"])} if b"enqueued_at" in value else value,
}
IGNORED = {"saq": [b"saq:mail:schedule"], "rq": [b"rq:scheduler-lock:mail"]}  # held for a time


async def snapshot(framework, client):
    """All keys but ours: type, value, about how many seconds to live."""
    found = {}
    for key in sorted(await client.keys()):
        if key.startswith(OURS) or key in IGNORED.get(framework.name, ()):
            continue
        kind = (await client.type(key)).decode()
        read = {
            "string": client.get,
            "list": lambda key: client.lrange(key, 0, -1),
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            "hash": client.hgetall,
            "stream": client.xrange,
        }[kind]
        value = await read(key)
        if kind == "stream":
            value = [fields for _, fields in value]
        if kind == "hash" and framework.name in PASSING:
            value = PASSING[framework.name](key, value)
        found[key] = kind, value, round(await client.ttl(key), -2)
    return found


async def published(client, act):
    """What is published while `act` runs, but for our own channels."""
    async with client.pubsub() as pubsub:
        await pubsub.psubscribe("*")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
        await act()
        await asyncio.sleep(0.2)
        found = []
        while message := await pubsub.get_message(timeout=0.05):
            if not message["channel"].startswith(OURS):
                found.append((message["channel"], message["data"]))
        return sorted(found)
