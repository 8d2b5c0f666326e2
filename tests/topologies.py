"""Several servers as one: a cluster of three primaries with replicas, and a primary with a replica and sentinels."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.servers import Server, free_port

NODE_TIMEOUT_MS = 1_000


def until(condition: Any, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if value := condition():
                return value
        except RedisError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def raw(client: Redis, *words: str | int) -> Any:
    """The reply as it came: what redis-py makes of these commands differs between its versions."""
    pool = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs | {"protocol": 2})  # one that the pool does not count
    try:
        connection.connect()
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()


def table(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def master(client: Redis, service: str) -> dict[str, str]:
    return table(raw(client, "SENTINEL", "MASTER", service))


RANGES = ((0, 5460), (5461, 10922), (10923, 16383))


class Cluster:
    """Three primaries with a third of the slots each, and a replica of each with `replicas=True`.

    What was acknowledged is on disk, so that a node that is killed and started again has it.
    """

    def __init__(self, *, replicas: bool = False, name: str = "valkey-9.1", **more: str | Callable[[], str]) -> None:
        """`more`: options of the servers' configuration; a callable gives that of each server."""
        options = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": str(NODE_TIMEOUT_MS),
            "cluster_replica_validity_factor": "0",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        count = 6 if replicas else 3
        self.servers = []
        for _ in range(count):
            own = {key: value() if callable(value) else value for key, value in more.items()}
            self.servers.append(Server(name, port=None, cluster_port=str(free_port()), **options | own))
        self.clients = [Redis(port=s.port) for s in self.servers]
        try:
            self._start(replicas, count)
        except BaseException:
            self.stop()
            raise

    def _start(self, replicas: bool, count: int) -> None:
        """Begin all nodes at once, with what they would come to know by meetings; see `_configurations`."""
        self._ids = [secrets.token_hex(20) for _ in self.servers]
        ghosts = [secrets.token_hex(20) for _ in RANGES]
        for server, configuration in zip(self.servers, self._configurations(ghosts), strict=True):
            (server.dir / "nodes.conf").write_text(configuration)
            server.begin("--cluster-node-timeout", "60000")  # nobody fails while they begin
        for server in self.servers:
            server.wait_ready()
        for client in self.clients[:3]:
            until(lambda c=client: b"cluster_state:ok" in raw(c, "CLUSTER", "INFO"))
            client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        for client, server in zip(self.clients, self.servers, strict=True):
            client.config_set("cluster-node-timeout", server.options["cluster_node_timeout"])
        until(lambda: all(self._knows_all(client) for client in self.clients))
        for client in self.clients:
            for ghost in ghosts:
                client.execute_command("CLUSTER", "FORGET", ghost)
        if replicas:
            until(lambda: all(c.info("replication")["master_link_status"] == "up" for c in self.clients[3:]))
        until(lambda: all(raw(c, "CLUSTER", "NODES").count(b"\n") == count for c in self.clients))
        until(lambda: all(b"cluster_state:ok" in raw(c, "CLUSTER", "INFO") for c in self.clients))

    def _configurations(self, ghosts: list[str]) -> Iterator[str]:
        """Of each server: it replicates a primary that has gone, and is to take its place.

        A primary that has just begun serves nothing for two seconds, whatever it knows; a replica that takes over does.
        """
        nowhere = free_port()
        shards = [secrets.token_hex(20) for _ in RANGES]
        for own in range(len(self.servers)):
            lines = []
            for i, (ghost, (low, high)) in enumerate(zip(ghosts, RANGES, strict=True)):
                address = self._node_address(nowhere, str(nowhere), shards[i])
                lines.append(f"{ghost} {address} master - 0 0 {i + 1} connected {low}-{high}")
            for i, (id, server) in enumerate(zip(self._ids, self.servers, strict=True)):
                port = server.options["tls_port"] if "tls_cluster" in server.options else server.port
                address = self._node_address(port, server.options["cluster_port"], shards[i % 3])
                flags = "myself,slave" if i == own else "slave"
                lines.append(f"{id} {address} {flags} {ghosts[i % 3]} 0 0 {i % 3 + 1} connected")
            yield "\n".join([*lines, f"vars currentEpoch {10 * (own + 1)} lastVoteEpoch 0", ""])

    def _node_address(self, port: int | str, bus: str, shard: str) -> str:
        return f"127.0.0.1:{port}@{bus}" + (f",,shard-id={shard}" if self.servers[0].name != "redis-7.0" else "")

    def _knows_all(self, client: Redis) -> bool:
        """The server knows which slots the first three have, and whom each other one replicates."""
        nodes = [line.split() for line in raw(client, "CLUSTER", "NODES").decode().splitlines()]
        seen = {id: (primary, slots) for id, _, _, primary, _, _, _, _, *slots in nodes if id in self._ids}
        expected = {id: ("-", [f"{low}-{high}"]) for id, (low, high) in zip(self._ids, RANGES, strict=False)}
        return seen == expected | {id: (self._ids[i], []) for i, id in enumerate(self._ids[3:])}

    def id(self, i: int) -> str:
        return self._ids[i]

    def urls(self, scheme: str, *seeds: int) -> str:
        """Naming some of the servers; the first three when none is given."""
        return f"{scheme}://" + ",".join(self.servers[i].address for i in seeds or range(3))

    def owner(self, key: bytes) -> int:
        """Which of the servers had the key's slot at first."""
        slot = self.slot(key)
        for i, (low, high) in enumerate(RANGES):
            if low <= slot <= high:
                return i
        raise AssertionError(slot)

    def slot(self, key: bytes) -> int:
        return int(key_slot(key))

    def kill(self, *which: int) -> None:
        """All servers when none is given."""
        for i in which or range(len(self.servers)):
            self.servers[i].kill()

    def restart(self, *which: int) -> None:
        """Start those that were killed; returns when they are back in their cluster."""
        for i in which or range(len(self.servers)):
            self.servers[i].begin()
        for i in which or range(len(self.servers)):
            self.servers[i].wait_ready()
            until(lambda i=i: b"cluster_state:ok" in raw(self.clients[i], "CLUSTER", "INFO"))

    def give_up(self, i: int) -> None:
        """Leave the slots of a server to nobody."""
        for client in self.clients:
            client.execute_command("CLUSTER", "DELSLOTSRANGE", *RANGES[i])

    def take_back(self, i: int) -> None:
        self.clients[i].execute_command("CLUSTER", "ADDSLOTSRANGE", *RANGES[i])

    def promoted(self, i: int) -> bool:
        """The server is a primary now."""
        return bool(self.clients[i].info("replication")["role"] == "master")

    def begin_migration(self, slot: int, source: int, target: int) -> None:
        self.clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self.clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))

    def move_keys(self, slot: int, source: int, target: int, at_most: int = 10**6) -> int:
        """Move some of the slot's keys; how many were moved."""
        keys = self.clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, at_most)
        for key in keys:
            self.clients[source].execute_command("MIGRATE", "127.0.0.1", self.servers[target].port, key, 0, 5000)
        return len(keys)

    def end_migration(self, slot: int, source: int, target: int) -> None:
        for i in (target, source, *range(3)):
            self.clients[i].execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id(target))

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.stop()


@asynccontextmanager
async def a_cluster(**options: Any) -> AsyncIterator[Cluster]:
    cluster = await asyncio.to_thread(lambda: Cluster(**options))
    try:
        yield cluster
    finally:
        await asyncio.to_thread(cluster.stop)


class Sentinels:
    """A primary, a replica and three sentinels that watch them, as `service`; `config` has lines of each's own."""

    service = "main"

    def __init__(self, name: str = "valkey-9.1", *, config: Sequence[str] = (), password: str | None = None) -> None:
        self.primary = Server(name)
        self.replica = Server(name, replicaof=f"127.0.0.1 {self.primary.port}")
        self.sentinels = [Server(name) for _ in range(3)]
        self.password = password
        try:
            self._start(config)
        except BaseException:
            self.stop()
            raise

    def _start(self, config: Sequence[str]) -> None:
        """Begin all at once; each sentinel is told of the others, of which it would hear within two seconds."""
        self.primary.begin()
        self.replica.begin()
        self.primary.wait_ready()
        self.replica.wait_ready()
        with Redis(port=self.replica.port) as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        ids = [secrets.token_hex(20) for _ in self.sentinels]
        others = [
            f"sentinel known-sentinel {self.service} 127.0.0.1 {sentinel.port} {id}"
            for id, sentinel in zip(ids, self.sentinels, strict=True)
        ]
        for i, (id, sentinel) in enumerate(zip(ids, self.sentinels, strict=True)):
            lines = [
                f"port {sentinel.port}",
                "bind 127.0.0.1",
                f"dir {sentinel.dir}",
                f"sentinel myid {id}",
                f"sentinel monitor {self.service} 127.0.0.1 {self.primary.port} 2",
                f"sentinel down-after-milliseconds {self.service} 500",
                f"sentinel failover-timeout {self.service} 3000",
                f"sentinel known-replica {self.service} 127.0.0.1 {self.replica.port}",
                *(line for other, line in enumerate(others) if other != i),
                *([f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"] if self.password else []),
                *config,
            ]
            file = sentinel.dir / "sentinel.conf"
            file.write_text("\n".join(lines) + "\n")
            sentinel.begin_with(str(file), "--sentinel")
        for i, sentinel in enumerate(self.sentinels):
            sentinel.wait_ready()
            with self.asking(i) as client:
                until(lambda client=client: self._well(client))

    def _well(self, client: Redis) -> bool:
        """The sentinel sees the primary, the replica and the other sentinels, none of them down or disconnected."""
        replicas, others = (raw(client, "SENTINEL", what, self.service) for what in ("REPLICAS", "SENTINELS"))
        seen = [table(entry)["flags"] for entry in [*replicas, *others]]
        return master(client, self.service)["flags"] == "master" and seen == ["slave", "sentinel", "sentinel"]

    def asking(self, i: int) -> Redis:
        """A client of the sentinel."""
        return Redis(port=self.sentinels[i].port, password=self.password)

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(s.address for s in self.sentinels) + f"/{self.service}"

    def fail_over(self, by: int = 0) -> None:
        """Have the replica promoted; the old primary lives on, and is told to be a replica ten seconds later."""
        with self.asking(by) as client:
            until(lambda: raw(client, "SENTINEL", "FAILOVER", self.service))
        self.wait_for_new_primary(by)

    def wait_for_new_primary(self, by: int = 0) -> None:
        with self.asking(by) as client:
            until(lambda: master(client, self.service)["port"] == str(self.replica.port))

    def stop(self) -> None:
        for server in (*self.sentinels, self.replica, self.primary):
            server.stop()
