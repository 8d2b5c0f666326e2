"""The minimal ACL of the docs is the one that works, and what is missing from it is degraded or clearly told."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis
from ulid import ULID

from promoter_core import DelayedQueue, PermanentError, Promoter, PromoterSettings, connect
from promoter_core.testing import RecordingEvents
from promoter_resp.keys import keys_of
from tests.server.bench import member

pytestmark = pytest.mark.server

DOCUMENTED = (Path(__file__).parents[2] / "docs/reference/wire-format.md").read_text()


@pytest.fixture
async def admin(any_server):
    async with Redis.from_url(any_server.url) as client:
        yield client


def documented(server):
    """The words of the documented ACL SETUSER command."""
    (text,) = re.findall(r"ACL SETUSER (promoter .*?)```", DOCUMENTED, re.S)
    return [word for word in text.split() if server != "redis-7.0" or word != "+client|setinfo"]


@pytest.mark.parametrize(
    ("scheme", "more", "wake"), [("redis", [], "any-write"), ("glide", ["+info", "+psubscribe"], "announced")]
)
async def test_the_documented_acl_is_enough(any_server, admin, scheme, more, wake):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), *more)
    queue, events = f"q-{ULID()}", RecordingEvents()
    async with connect(f"{scheme}://promoter:password@{any_server.address}/0") as backend:
        jobs = DelayedQueue(backend, queue)
        async with Promoter(backend, PromoterSettings(queue=queue), events=[events]).running():
            await jobs.schedule(1, delay=0.05, job_id="a")
            cancelled = await jobs.schedule(2, delay=60)
            await jobs.cancel(cancelled)
            await admin.zadd(keys_of(queue).delayed, {member("b"): 10**13, member("c"): 1})
            await jobs.cancel("nobody")
            assert (await jobs.cancel("b")).value == "removed", "it has no index"
            await jobs.schedule(3, job_id="d")
            await jobs.schedule(3, job_id="d")
            await admin.zadd(keys_of(queue).delayed, {member("e"): 1})
            await jobs.schedule(4, job_id="f", delay=60)
            async with asyncio.timeout(10):
                while not {"a", "c", "d", "e"} <= set(events.ids):
                    await asyncio.sleep(0.01)
            assert backend.capabilities.wake == wake
            assert (await jobs.stats()).stream_len == 4
    refused = [str(entry) for entry in await admin.execute_command("ACL", "LOG")]
    assert [entry for entry in refused if "setinfo" not in entry] == []


async def test_a_missing_permission_is_a_permanent_error_that_names_the_command(any_server, admin):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), "-evalsha", "-eval")
    with pytest.raises(PermanentError, match="evalsha") as raised:
        async with connect(f"redis://promoter:password@{any_server.address}") as backend:
            await DelayedQueue(backend, "q").schedule(1, delay=1)
    assert raised.value.code == "NOPERM"
    assert "password" not in str(raised.value)
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")


async def test_glide_tells_what_it_may_not_do_when_it_connects(any_server, admin):
    await admin.execute_command("ACL", "SETUSER", *documented(any_server.name), "-info")
    with pytest.raises(PermanentError, match="info") as raised:
        async with connect(f"glide://promoter:password@{any_server.address}"):
            pass
    assert raised.value.code == "NOPERM"
    await admin.execute_command("ACL", "DELUSER", "promoter")
    await admin.execute_command("ACL", "LOG", "RESET")
