"""How a terminal shows foreign text, and how the commands answer input that cannot be meant."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis import Redis
from ulid import ULID

from promoter_core import PromoterFleet, connect
from promoter_core.spi import CHASQUIMQ
from tests.server.test_cli import promoter

pytestmark = pytest.mark.server


@pytest.fixture
def name():
    return f"q-{ULID()}"


@pytest.mark.parametrize("holder", ["host[/x]", "pod[blue]-1", "back\\[slash]", "[/]"])
def test_a_holder_is_shown_as_it_is(valkey, name, holder):
    with Redis(port=valkey.port) as client:
        client.set(CHASQUIMQ.keys_of(name).lock, holder, px=60_000)
    done = promoter("inspect", "--url", valkey.url, "--queue", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert holder in done.stdout


def test_foreign_text_cannot_control_the_terminal(valkey, name):
    with Redis(port=valkey.port) as client:
        client.set(CHASQUIMQ.keys_of(name).lock, "a\x1b[31mred\x07", px=60_000)
        client.xadd(CHASQUIMQ.keys_of(name).dlq, {"reason": "[b]\x1b]0;x\x07", "d": b"x"})
    shown = promoter("inspect", "--url", valkey.url, "--queue", name).stdout
    listed = promoter("dead-letters", "list", "--url", valkey.url, "--queue", name).stdout
    assert "\\x1b[31mred\\x07" in shown
    assert "[b]\\x1b]0;x\\x07" in listed
    assert "\x1b" not in shown + listed


@pytest.mark.parametrize("command", [("inspect",), ("plugins",), ("doctor",), ("--help",)])
def test_a_terminal_that_is_not_utf_8_gets_no_traceback(valkey, name, command):
    at = () if command[0] in ("plugins", "--help") else ("--url", valkey.url, "--queue", name)
    done = promoter(*command, *at, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("scheme", ["memory://", "memory://shared", "fake://"])
def test_a_job_is_not_scheduled_into_a_store_that_ends_with_the_command(scheme, name):
    done = promoter("schedule", "--url", scheme, "--queue", name, "--delay", "1h", "{}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "keeps its jobs in this process, which ends here" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "--url", "rediss2://x"), "unknown URL scheme"),
        (("run", "--url", "memory://", "--metrics", "nope"), "unknown metrics sink"),
        (("run", "--url", "memory://", "--connect-timeout", "nan"), "--connect-timeout must be"),
        (("run", "--url", "memory://", "--connect-timeout", "-1"), "--connect-timeout must be"),
        (("schedule", "--url", "memory://", "--delay", "1s", '{"a": 1, "a": 2}'), "the key 'a' twice"),
        (("schedule", "--url", "memory://", "--delay", "1s", "[NaN]"), "NaN is not a JSON number"),
        (("schedule", "--url", "memory://", "--delay", "1s", "-Infinity"), "No such option"),
        (("schedule", "--url", "memory://", "--delay", "1s", "--", "-Infinity"), "-Infinity is not a JSON number"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(arguments, message, name):
    done = promoter(*arguments[:3], "--queue", name, *arguments[3:])
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("inspect",), ("schedule", "{}", "--delay", "1s"), ("cancel", "a"), ("doctor",)])
def test_a_pattern_is_no_queue(valkey, command):
    done = promoter(*command, "--url", valkey.url, "--queue", "mail-*")
    assert done.returncode == 2
    assert "'mail-*' is a pattern: this command takes the name of one queue" in done.stderr


def test_a_queue_that_is_not_there_is_said_and_the_nearest_named(valkey, name):
    promoter("schedule", "--url", valkey.url, "--queue", name, "--delay", "1h", "{}")
    wrong = promoter("inspect", "--url", valkey.url, "--queue", name + "s", "--json")
    assert (wrong.returncode, json.loads(wrong.stdout)["depth"]) == (0, 0)
    assert f"the store has nothing of a queue {name + 's'!r}" in wrong.stderr
    assert f"did you mean {name!r}?" in wrong.stderr
    assert promoter("inspect", "--url", valkey.url, "--queue", name).stderr == ""


def test_deleting_an_entry_that_is_not_there_is_said(valkey, name):
    done = promoter("dead-letters", "delete", "--url", valkey.url, "--queue", name, "NOPE")
    assert (done.returncode, done.stdout) == (1, "0 deleted\n")
    assert done.stderr == "Error: NOPE: no such dead letter\n"


async def test_a_doctor_beside_a_fleet_of_everything_finds_what_it_would_find_alone(server):
    async with (
        connect(server.url) as backend,
        PromoterFleet(backend, ["*"], discover_s=0.05).running() as fleet,
    ):
        for _ in range(2):
            done = await asyncio.to_thread(promoter, "doctor", "--url", server.url, "--json")
            found = [f["summary"] for f in json.loads(done.stdout)]
            assert "scripts and all their commands are permitted" in found
        await asyncio.sleep(0.5)
        assert fleet.health() == []
    assert server.ask("KEYS", "{chasqui:promoter-doctor*") == b"*0\r\n"


@pytest.mark.parametrize("missing", ["-zrem", "-zremrangebyrank", "-xadd", "-zcard", "-del", "-xlen", "-zadd"])
def test_a_doctor_leaves_nothing_behind_whatever_it_may_not_do(server, missing):
    with Redis(port=server.port) as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", missing)
        done = promoter("doctor", "--url", f"redis://poor:pw@{server.address}")
        assert "cannot be scheduled and promoted" in done.stdout
        if missing != "-del":
            assert client.keys() == []
        assert all(0 < client.pttl(key) < 70_000 for key in client.scan_iter()), client.keys()


def test_a_group_is_not_blamed_while_nothing_waits_for_room(server, name):
    k = CHASQUIMQ.keys_of(name)
    with Redis(port=server.port) as client:
        client.xadd(k.stream, {"d": b"x"})
        client.xgroup_create(k.stream, "workers", "0")
        client.xreadgroup("workers", "c", {k.stream: ">"})
        client.zadd(k.delayed, {b"\0\0\0\0x": 1})
    done = promoter("doctor", "--url", server.url, "--queue", name)
    assert "holds the stream" not in done.stdout
    assert "1 job due, the oldest for" in done.stdout
    assert "start `promoter run`" in done.stdout
