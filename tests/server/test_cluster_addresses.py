"""How the nodes of a cluster say where they are: not at all, by name, by IPv6, with TLS on a separate port."""

from __future__ import annotations

import re

import pytest
from ulid import ULID

from promoter_core import DelayedQueue, PermanentError, Promoter, connect
from promoter_core.spi import CHASQUIMQ
from promoter_core.testing import RecordingEvents
from tests.server.bench import until
from tests.server.test_acl import DOCUMENTED, documented
from tests.server.test_security import certificates, tls_url  # noqa: F401  # a fixture
from tests.servers import find, free_port
from tests.topologies import a_cluster, raw

pytestmark = pytest.mark.server

ENDPOINT = "cluster_preferred_endpoint_type"
WAYS = {
    "unknown": ({ENDPOINT: "unknown-endpoint"}, None),
    "hostname": ({ENDPOINT: "hostname", "cluster_announce_hostname": "localhost"}, b"localhost"),
    "no hostname": ({ENDPOINT: "hostname"}, b"?"),
    "IPv6": ({"bind": "127.0.0.1 ::1", "cluster_announce_ip": "::1"}, b"::1"),
}


async def serves_all_nodes(cluster, url):
    """One queue on each node gets its job, promoted by one process."""
    queues = []
    for node in range(3):
        names = (str(ULID()) for _ in range(999))
        queues.append(next(name for name in names if cluster.owner(CHASQUIMQ.keys_of(name).lock) == node))
    events = RecordingEvents()
    async with connect(url) as backend:
        for queue in queues:
            async with Promoter(backend, queue, events=[events]).running():
                await DelayedQueue(backend, queue).schedule(1, delay=0.05, job_id=queue)
                await until(lambda queue=queue: queue in events.ids)


@pytest.mark.parametrize("name", ["valkey-9.1", "redis-7.0"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_cluster_is_used_however_its_nodes_call_themselves(way, name):
    if find(name) is None:
        pytest.skip(f"{name} is not installed")
    options, said = WAYS[way]
    async with a_cluster(name=name, **options) as cluster:
        assert raw(cluster.clients[0], "CLUSTER", "SLOTS")[0][2][0] == said
        url = cluster.urls("redis+cluster", 1)
        await serves_all_nodes(cluster, url)
        if way == "IPv6":
            await serves_all_nodes(cluster, url.replace("127.0.0.1", "[::1]"))


async def test_a_cluster_with_tls_is_reached_on_its_tls_ports(certificates):  # noqa: F811
    if find("redis-7.0") is None:
        pytest.skip("redis-7.0, the one server here that speaks TLS, is not installed")
    files = {"tls_cert_file": "server.pem", "tls_key_file": "server.key", "tls_ca_cert_file": "ca.pem"}
    paths = {option: str(certificates / file) for option, file in files.items()}
    options = {"tls_port": lambda: str(free_port()), "tls_auth_clients": "yes", "tls_cluster": "yes"}
    async with a_cluster(name="redis-7.0", **options, **paths) as cluster:
        await serves_all_nodes(cluster, tls_url("redis+cluster", cluster.servers[2], certificates) + "&tls=1")


@pytest.mark.parametrize("user", ["", "me:s3cret@"])
async def test_what_is_no_cluster_or_refuses_us_is_a_permanent_error(valkey, user):
    with pytest.raises(PermanentError, match="WRONGPASS" if user else "cluster support disabled") as raised:
        async with connect(f"redis+cluster://{user}{valkey.address}"):
            pass
    assert "s3cret" not in str(raised.value)


async def test_the_documented_permissions_are_enough_in_a_cluster():
    (words,) = re.findall(r"A cluster needs `(.*?)`", DOCUMENTED)
    async with a_cluster() as cluster:
        for client in cluster.clients:
            client.execute_command("ACL", "SETUSER", *documented("valkey-9.1"), *words.split())
        url = f"redis+cluster://promoter:password@{cluster.servers[0].address}"
        await serves_all_nodes(cluster, url)
        for client in cluster.clients:
            client.execute_command("ACL", "SETUSER", "promoter", "-cluster|info")  # it only helps to choose
        await serves_all_nodes(cluster, url)
        for client in cluster.clients:
            client.execute_command("ACL", "SETUSER", "promoter", "-cluster|slots")
        with pytest.raises(PermanentError, match=r"cluster.slots"):
            await serves_all_nodes(cluster, url)
