"""`promoter doctor` and `promoter dead-letters`, as an operator uses them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil

import msgpack
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from promoter_core import DelayedQueue, connect
from promoter_core.spi import CHASQUIMQ, Severity
from promoter_resp import diagnostics
from promoter_resp.diagnostics import _disk as diagnose_disk
from tests.server.bench import member, promote, until
from tests.server.test_cli import promoter
from tests.servers import Server

pytestmark = pytest.mark.server


def doctor(url, *more):
    run = promoter("doctor", "--url", url, "--json", *more)
    return run.returncode, {f["summary"]: (f["severity"], f["advice"]) for f in json.loads(run.stdout)}


def find(findings, text):
    (what,) = [what for what in findings if text in what]
    return what, findings[what]


@pytest.mark.parametrize("scheme", ["redis", "glide"])
def test_a_sound_server_gets_a_clean_bill(server, scheme):
    server.stop()
    server.dir.mkdir(exist_ok=True)
    server.options |= {"appendonly": "yes"}
    server.start()
    code, findings = doctor(f"{scheme}://{server.address}")
    assert code == 0
    assert find(findings, "Valkey 9.1")[1][0] == "ok"
    assert find(findings, "nothing is evicted")[1][0] == "ok"
    assert find(findings, "append-only file is on")[1][0] == "ok"
    assert find(findings, "scripts and all their commands are permitted")[1][0] == "ok"
    assert find(findings, "announce")[1][0] == "ok"
    assert server.ask("KEYS", "*") == b"*0\r\n", "it leaves nothing behind"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "may evict whole queues"),
        ({"appendonly": "no", "save": ""}, "a restart loses every job"),
    ],
)
async def test_what_would_lose_jobs_is_a_problem_and_exit_code_1(server, settings, problem):
    async with Redis(port=server.port) as client:
        await client.config_set("appendonly", "yes")
        for name, value in settings.items():
            await client.config_set(name, value)
    code, findings = doctor(server.url)
    what, (severity, advice) = find(findings, problem)
    assert (code, severity) == (1, "problem"), what
    assert "CONFIG SET" in advice


async def test_how_much_a_crash_of_the_machine_loses_is_told(server):
    said = {"always": "nothing that was acknowledged", "everysec": "at most about two seconds", "no": "half a minute"}
    async with Redis(port=server.port) as client:
        await client.config_set("appendonly", "yes")
        for fsync, loss in said.items():
            await client.config_set("appendfsync", fsync)
            what, (severity, _) = find(doctor(server.url)[1], "append-only file is on")
            assert loss in what
            assert severity == ("warning" if fsync == "no" else "ok")


def test_a_disk_that_refuses_writes_is_a_problem():
    full = {"aof_enabled": "1", "aof_last_write_status": "err"}
    assert "append-only file failed" in _disk(full).summary
    assert "snapshot failed" in _disk({"rdb_last_bgsave_status": "err"}).summary
    assert _disk({"aof_enabled": "1", "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok"}) is None


def _disk(info):
    async def ask(*command):
        return info

    found = asyncio.run(diagnose_disk(ask))
    assert found is None or found.severity is Severity.PROBLEM
    return found


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_what_wait_replicas_promises_is_told(server, scheme):
    with Server(replicaof=f"127.0.0.1 {server.port}"):
        async with Redis(port=server.port) as client:
            await until(lambda: client.wait(1, 100), 30)
            url = f"{scheme}://{server.address}"
            what, (severity, advice) = find(doctor(url)[1], "1 replicas are connected")
            assert severity == "warning"
            assert "lacks the last jobs loses them" in what
            assert "?wait_replicas=1" in advice
            assert find(doctor(url + "?wait_replicas=1")[1], "replicas are connected")[1][0] == "ok"
            code, findings = doctor(url + "?wait_replicas=2&command_timeout_ms=2000")
            assert find(findings, "wait_replicas=2 requires more")[1][0] == "problem"
            assert code == 1
            await client.config_set("min-replicas-to-write", 1)
            assert find(doctor(url)[1], "replicas are connected")[1][0] == "ok"


async def test_a_replica_is_told(server):
    async with Redis(port=server.port) as client:
        await client.replicaof("127.0.0.1", "1")
    run = promoter("doctor", "--url", server.url)
    assert run.returncode == 1
    assert "it refuses writes" in run.stdout
    assert "READONLY" in run.stdout


async def test_a_missing_permission_is_named(server):
    async with Redis(port=server.port) as client:
        await client.execute_command(
            "ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", "-zremrangebyrank", "-zrem"
        )
    code, findings = doctor(f"redis://poor:pw@{server.address}")
    what, (severity, _) = find(findings, "cannot be scheduled and promoted")
    assert (code, severity) == (1, "problem")
    assert "zrem" in what
    assert "pw" not in json.dumps(list(findings))


@pytest.mark.parametrize(("layout", "key"), [("chasqui", "~{chasqui:*"), ("laravel", "~queues:*:delayed")])
@pytest.mark.parametrize("lacks", ["-evalsha", "-ping"])
async def test_the_rules_that_a_user_lacks_are_shown_and_suffice(server, layout, key, lacks):
    words = ["on", ">pw", "~mine:*", "+@all", "-eval", lacks]
    async with Redis(port=server.port) as client:
        await client.execute_command("ACL", "SETUSER", "poor", "reset", *words)
        where = f"redis://poor:pw@{server.address}", "--layout", layout
        code, findings = doctor(*where)
        _, (severity, advice) = find(findings, "NOPERM")
        assert (code, severity) == (1, "problem")
        assert (
            "`promoter doctor` shows the rules that it needs"
            in promoter("inspect", "--queue", "q", "--url", *where).stderr
        )
        rules = advice.removeprefix("rules of ACL SETUSER that it needs: ").split(", and")[0].split()
        assert key in rules
        await client.execute_command("ACL", "SETUSER", "poor", *rules)
        assert not any("NOPERM" in what for what in doctor(*where)[1])
        assert b"~mine:*" in repr(await client.execute_command("ACL", "GETUSER", "poor")).encode(), "its own stay"


async def test_without_getdel_ids_stay_taken_and_it_says_so(server):
    async with Redis(port=server.port) as client:
        await client.execute_command("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", "-getdel")
    _, findings = doctor(f"redis://poor:pw@{server.address}")
    assert find(findings, "ids stay taken")[1] == ("warning", "allow GETDEL, if producers use keep_id_for")
    assert find(findings, "scripts and all their commands")[1][0] == "ok"
    assert server.ask("KEYS", "*") == b"*0\r\n", "it leaves nothing behind"


def test_a_server_that_is_not_there_is_one_line():
    run = promoter("doctor", "--url", "redis://127.0.0.1:1")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: cannot reach the server at 127.0.0.1:1")


async def test_a_server_that_refuses_all_for_its_disk_gets_advice(server):
    """It refuses even PING."""
    async with Redis(port=server.port) as client:
        await client.config_set("save", "3600 1")
        await client.set("a", 1)
        shutil.rmtree(server.dir)
        with contextlib.suppress(ResponseError):
            await client.bgsave()

        async def failed():
            return (await client.info("persistence"))["rdb_last_bgsave_status"] == "err"

        await until(failed, 30)
    code, findings = doctor(server.url)
    what, (severity, advice) = find(findings, "MISCONF")
    assert "cannot write to its disk" in what
    assert (code, severity, advice) == (1, "problem", "look at the disk, and at the server's log")


def test_a_slow_round_trip_is_a_warning(monkeypatch):
    async def ask(*command):
        await asyncio.sleep(0.002)

    assert asyncio.run(diagnostics._latency(ask)).severity is Severity.OK
    monkeypatch.setattr(diagnostics, "SLOW_S", 0.001)
    found = asyncio.run(diagnostics._latency(ask))
    assert found.severity is Severity.WARNING
    assert re.match(r"a command takes [2-9]\d*\.\d ms: the network", found.summary)


async def test_a_group_that_reads_nothing_is_a_warning(valkey, backend, client, name, keys):
    await client.zadd(keys.delayed, {member(f"{i}"): 1 for i in range(5)})
    await client.xgroup_create(keys.stream, "mailers", id="0", mkstream=True)
    await promote(backend, name)
    what, (severity, advice) = find(doctor(valkey.url, "--queue", name)[1], "group mailers has")
    assert "and 5 not delivered, no fewer than a second before" in what
    assert severity == "warning"
    assert "if no consumer of the group reads, start one" in advice
    await client.xreadgroup("mailers", "worker-7", {keys.stream: ">"})
    assert find(doctor(valkey.url, "--queue", name)[1], "group mailers has")[1][0] == "ok"


async def test_a_queue_that_cannot_be_read_does_not_hide_the_others(valkey, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 9e12})
    other = CHASQUIMQ.keys_of(f"{name}-b")
    await client.zadd(other.delayed, {member("a"): 9e12})
    await client.hset(other.stream, "a", "b")
    run = promoter("queues", f"{name}*", "--url", valkey.url)
    assert run.returncode == 1
    assert "1 queue" in run.stdout
    assert "WRONGTYPE" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    run = promoter("queues", f"{name}*", "--json", "--url", valkey.url)
    assert [row["queue"] for row in json.loads(run.stdout)] == [name]
    await client.delete(other.delayed, other.stream)


async def test_who_holds_the_stream_is_named(valkey, backend, client, name, keys):
    await client.zadd(keys.delayed, {member(f"{i}"): 1 for i in range(20)})
    await client.xgroup_create(keys.stream, "mailers", id="0", mkstream=True)
    await promote(backend, name, max_stream_len=10)
    await client.xreadgroup("mailers", "worker-7", {keys.stream: ">"}, count=4)
    _, findings = doctor(valkey.url, "--queue", name)
    what, (severity, _) = find(findings, "group mailers has")
    assert "4 entries unacknowledged, the oldest with consumer worker-7" in what
    assert severity == "warning", "the other entries wait"
    what, (severity, advice) = find(findings, "jobs due, the oldest for")
    assert severity == "warning"
    assert "see the consumers of mailers" in advice
    shown = promoter("inspect", "--url", valkey.url, "--queue", name).stdout
    assert "group mailers" in shown
    assert "worker-7" in shown


@pytest.mark.parametrize("ttl_ms", [None, 3_000_000, 50_000])
async def test_a_leader_under_whom_jobs_are_overdue_is_named(valkey, client, name, keys, ttl_ms):
    await client.set(keys.lock, "pod[blue]-1", px=ttl_ms)
    _, findings = doctor(valkey.url, "--queue", name)
    what, (severity, _) = find(findings, "pod[blue]-1 leads, with ")
    assert severity == ("warning" if ttl_ms is None else "ok"), "nothing is overdue yet"
    await client.zadd(keys.delayed, {member("a"): 1})
    _, findings = doctor(valkey.url, "--queue", name)
    what, (severity, advice) = find(findings, "pod[blue]-1 leads, with ")
    assert "; 1 job overdue, the oldest by " in what
    assert ("does not expire" if ttl_ms is None else "of its lease left") in what
    assert severity == ("warning" if ttl_ms == 50_000 else "problem")
    assert ("delete the lock" in advice) is (severity == "problem")
    if ttl_ms is None:
        assert "with a lock that does not expire" in promoter("inspect", "--url", valkey.url, "--queue", name).stdout


@pytest.mark.parametrize("scheme", ["redis", "glide"])
@pytest.mark.parametrize("suffix", ["delayed", "stream", "events", "dlq"])
async def test_a_key_of_the_wrong_type_is_named_beside_what_else_was_found(valkey, client, name, suffix, scheme):
    keys = CHASQUIMQ.keys_of(name)
    key = keys.prefix + suffix.encode()
    await client.hset(key, "a", "b")
    code, findings = doctor(valkey.url.replace("redis", scheme), "--queue", name)
    what, (severity, _) = find(findings, f"queue {name!r} cannot be read: WRONGTYPE: the key {key.decode()}")
    assert f"is of type hash and not {'zset' if suffix == 'delayed' else 'stream'}: another program wrote it" in what
    assert (code, severity) == (1, "problem")
    assert find(findings, "the store can be reached")
    run = promoter("inspect", "--url", valkey.url, "--queue", name)
    assert f"WRONGTYPE: the key {key.decode()} is of type hash" in run.stderr


async def test_what_was_found_is_shown_where_the_queue_may_not_be_read(server, name):
    server.ask("ACL", "SETUSER", "poor", "on", ">pw", "~*", "&*", "+@all", "-eval", "-evalsha")
    code, findings = doctor(f"redis://poor:pw@{server.address}", "--queue", name)
    assert code == 1
    assert find(findings, "a job cannot be scheduled and promoted: NOPERM")
    assert find(findings, f"queue {name!r} cannot be read: NOPERM")


async def test_parked_jobs_are_a_warning(valkey, client, name, keys):
    await client.zadd(keys.delayed, {member("a"): 1_900_000_000_000_000})
    what, (severity, advice) = find(doctor(valkey.url, "--queue", name)[1], "parked")
    assert what == "1 job parked: due after the year 9999, and so never"
    assert severity == "warning"
    assert "promoter reschedule" in advice


# Dead letters


async def malformed(backend, client, name, keys):
    legacy = msgpack.packb(["old-1", msgpack.packb({"to": "ada"}), 1, 0])  # a member from before names had a header
    await client.zadd(keys.delayed, {b"\x01": 1, legacy: 2, member("good"): 3})
    assert (await promote(backend, name)).malformed == 2
    return legacy


async def test_dead_letters_can_be_listed_shown_requeued_and_deleted(valkey, backend, client, name, keys):
    legacy = await malformed(backend, client, name, keys)
    at = ("--url", valkey.url, "--queue", name)
    listed = json.loads(promoter("dead-letters", "list", *at, "--json").stdout)
    assert [(e["reason"], e["detail"], e["bytes"]) for e in listed] == [
        ("malformed", "shorter than its header", 1),
        ("malformed", "the name runs past the end", len(legacy)),
    ]
    broken, old = (e["entry"] for e in listed)
    assert "shorter than its header" in promoter("dead-letters", "list", *at).stdout
    shown = promoter("dead-letters", "show", old, *at).stdout
    assert "job:       old-1" in shown
    assert "{'to': 'ada'}" in shown
    refused = promoter("dead-letters", "requeue", broken, old, *at)
    assert refused.returncode == 1
    assert f"{broken}: no readable job" in refused.stderr
    assert refused.stdout == f"{old}\trequeued\n"
    stream = [fields for _, fields in await client.xrange(keys.stream)]
    assert stream[-1] == {b"d": legacy}
    deleted = promoter("dead-letters", "delete", broken, "9-9", *at)
    assert deleted.returncode == 1
    assert "9-9: no such dead letter" in deleted.stderr
    assert await client.xlen(keys.dlq) == 0


async def test_what_consumers_gave_up_on_can_be_requeued_too(valkey, client, name, keys):
    envelope = msgpack.packb(["a", b"\xc0", 1, 3])
    entry = await client.xadd(keys.dlq, {"source_id": "1-1", "reason": "retries_exhausted", "d": envelope, "n": "mail"})
    done = promoter("dead-letters", "requeue", entry.decode(), "--url", valkey.url, "--queue", name)
    assert done.returncode == 0
    assert [f for _, f in await client.xrange(keys.stream)] == [{b"d": envelope, b"n": b"mail"}]


async def test_all_or_those_of_a_reason_are_requeued_and_deleted(valkey, client, name, keys):
    envelope = msgpack.packb(["a", b"\xc0", 1, 3])
    for _ in range(3):
        await client.xadd(keys.dlq, {"reason": "retries_exhausted", "d": envelope})
        await client.xadd(keys.dlq, {"reason": "malformed", "d": b"\x01"})
    at = ("--url", valkey.url, "--queue", name)
    tried = promoter("dead-letters", "requeue", "--reason", "retries_exhausted", "--dry-run", *at)
    assert tried.stdout == "3 would be requeued\n"
    assert await client.xlen(keys.dlq) == 6
    done = promoter("dead-letters", "requeue", "--all", *at)
    assert (done.returncode, done.stdout) == (1, "3 requeued\n")
    assert done.stderr.strip().endswith(
        "3 entries: no readable job; `dead-letters show` shows the bytes, `delete` removes the entry"
    )
    assert await client.xlen(keys.stream) == 3
    assert promoter("dead-letters", "delete", "--reason", "other", *at).stdout == "0 deleted\n"
    assert promoter("dead-letters", "delete", "--all", "--dry-run", *at).stdout == "3 would be deleted\n"
    assert json.loads(promoter("dead-letters", "delete", "--reason", "malformed", "--json", *at).stdout) == {
        "deleted": 3
    }
    assert await client.xlen(keys.dlq) == 0


@pytest.mark.parametrize("chosen", [[], ["1-1", "--all"], ["--all", "--reason", "malformed"]])
@pytest.mark.parametrize("command", ["requeue", "delete"])
def test_ids_a_reason_or_all_is_required(command, chosen):
    run = promoter("dead-letters", command, *chosen, "--url", "redis://localhost:1", "--queue", "q")
    assert run.returncode == 2
    assert run.stderr.strip() == "Error: give either the ids of entries, --reason, or --all"


async def test_an_entry_that_has_gone_is_not_requeued(backend, name):
    assert await backend.requeue_dead_letter(name, "1-1", b"x", "") is False
    assert await backend.delete_dead_letters(name, ["1-1"]) == 0


def test_a_backend_without_dead_letters_says_so():
    run = promoter("dead-letters", "delete", "1-1", "--url", "memory://", "--queue", "q")
    assert run.returncode == 2
    assert "has no dead letters" in run.stderr


async def test_inspect_counts_the_dead_letters(valkey, backend, client, name, keys):
    await malformed(backend, client, name, keys)
    async with connect(valkey.url) as other:
        assert (await DelayedQueue(other, name).stats()).dlq_len == 2
    assert keys == CHASQUIMQ.keys_of(name)
