"""TLS with a CA and client certificates of our own, passwords that rotate, and passwords that are never shown."""

from __future__ import annotations

import asyncio
import logging
import subprocess

import pytest
from redis.asyncio import Redis

from promoter_core import (
    ConfigError,
    DelayedQueue,
    Promoter,
    PromoterError,
    PromoterSettings,
    Registry,
    TransientError,
    connect,
)
from promoter_core.testing import RecordingMetrics
from tests.server.bench import member, until
from tests.servers import Server, find, free_port

pytestmark = pytest.mark.server


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, and a certificate of the server and of a client by it; the folder."""
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-nodes", "-newkey", "rsa:2048", "-days", "2"]
    openssl("req", "-x509", *subject, "-subj", "/CN=ca", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "other-names").write_text("subjectAltName=DNS:other.example,IP:127.9.9.9\n")
    for who in ("server", "client", "other"):
        csr, key, pem = (folder / f"{who}.{e}" for e in ("csr", "key", "pem"))
        openssl("req", *subject[:3], "-subj", f"/CN={who}", "-keyout", key, "-out", csr)
        ca = ["-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial"]
        openssl(
            "x509",
            "-req",
            "-in",
            csr,
            *ca,
            "-days",
            "2",
            "-out",
            pem,
            "-extfile",
            folder / ("other-names" if who == "other" else "names"),
        )
    return folder


def tls_options(certificates, who="server"):
    return {
        "tls_port": str(free_port()),
        "tls_cert_file": str(certificates / f"{who}.pem"),
        "tls_key_file": str(certificates / f"{who}.key"),
        "tls_ca_cert_file": str(certificates / "ca.pem"),
        "tls_auth_clients": "yes",
    }


@pytest.fixture(scope="module")
def tls_server(certificates):
    if find("redis-7.0") is None:
        pytest.skip("redis-7.0, the one server here that speaks TLS, is not installed")
    with Server("redis-7.0", **tls_options(certificates)) as server:
        yield server


def tls_url(scheme, server, folder, *, client=True, ca="ca.pem"):
    url = f"{scheme}://127.0.0.1:{server.options['tls_port']}?tls_ca={folder / ca}&command_timeout_ms=3000"
    return url + (f"&tls_cert={folder / 'client.pem'}&tls_key={folder / 'client.key'}" if client else "")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys", "glides"])
async def test_tls_with_a_ca_and_a_client_certificate(tls_server, certificates, name, scheme):
    metrics = RecordingMetrics()
    async with connect(tls_url(scheme, tls_server, certificates)) as backend:
        await DelayedQueue(backend, name).schedule(1, delay=0.05)
        async with Promoter(backend, name, metrics=[metrics]).running():
            await until(lambda: metrics.promoted == 1)


async def test_a_port_without_tls_that_is_asked_for_it_is_an_error_that_says_tls(server):
    with pytest.raises(TransientError, match=f"{server.address} \\(by TLS\\)"):
        async with connect(f"rediss://{server.address}?command_timeout_ms=500"):
            pass


@pytest.mark.parametrize("scheme", ["rediss", "glides"])
@pytest.mark.parametrize("wrong", ["no client certificate", "another CA"])
async def test_tls_that_does_not_hold_is_refused(tls_server, certificates, scheme, wrong):
    openssl(
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=x",
        "-keyout",
        certificates / "x.key",
        "-out",
        certificates / "x.pem",
    )
    url = tls_url(
        scheme,
        tls_server,
        certificates,
        client=wrong == "another CA",
        ca="x.pem" if wrong == "another CA" else "ca.pem",
    )
    with pytest.raises(PromoterError):
        async with connect(url) as backend:
            await backend.stats("q")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys", "glides"])
async def test_tls_with_a_certificate_of_another_name_is_refused(tls_server, certificates, scheme):
    """A trusted CA has signed it, for another server."""
    with Server("redis-7.0", **tls_options(certificates, "other")) as other:
        with pytest.raises(PromoterError) as raised:
            async with connect(tls_url(scheme, other, certificates)) as backend:
                await backend.stats("q")
        if scheme != "glides":
            assert "certificate" in str(raised.value).lower()


@pytest.mark.parametrize("tls", ["the sentinel", "the server", "both"])
async def test_tls_of_sentinels_and_of_the_server_they_name(tls_server, certificates, tls):
    of_sentinel, of_server = tls != "the server", tls != "the sentinel"
    sentinel, options = Server("redis-7.0"), tls_options(certificates)
    named = tls_server.options["tls_port"] if of_server else tls_server.port
    lines = [f"port {sentinel.port}", f"dir {sentinel.dir}", f"sentinel monitor main 127.0.0.1 {named} 1"]
    lines += [f"{key.replace('_', '-')} {value}" for key, value in options.items()]
    lines += ["tls-replication yes"] if of_server else []  # how the sentinel itself talks to the server
    file = sentinel.dir / "sentinel.conf"
    file.write_text("\n".join(lines) + "\n")
    try:
        sentinel.start_with(str(file), "--sentinel")
        port = options["tls_port"] if of_sentinel else sentinel.port
        url = f"redis+sentinel://127.0.0.1:{port}/main?tls={int(of_server)}&sentinel_tls={int(of_sentinel)}"
        url += "&command_timeout_ms=3000" + "".join(
            f"&{option}={certificates / file}"
            for option, file in (("tls_ca", "ca.pem"), ("tls_cert", "client.pem"), ("tls_key", "client.key"))
        )
        metrics = RecordingMetrics()
        async with connect(url) as backend:
            await DelayedQueue(backend, f"tls-{of_sentinel}-{of_server}").schedule(1, delay=0.05)
            async with Promoter(backend, f"tls-{of_sentinel}-{of_server}", metrics=[metrics]).running():
                await until(lambda: metrics.promoted == 1)
        wrong = url.replace(f"sentinel_tls={int(of_sentinel)}", f"sentinel_tls={int(not of_sentinel)}")
        if tls != "the sentinel":  # otherwise there is no use of the files, which is a separate error
            with pytest.raises(PromoterError, match="the sentinel"):
                async with connect(wrong):
                    pass
    finally:
        sentinel.stop()


@pytest.mark.parametrize("scheme", ["redis", "glide"])
def test_tls_options_without_tls_and_files_that_are_not_there_are_clear_errors(scheme, tmp_path):
    with pytest.raises(ConfigError, match="need a URL with TLS"):
        Registry().backend(f"{scheme}://localhost?tls_ca=/x.pem")
    with pytest.raises(ConfigError, match="there is no file|cannot be read"):
        Registry().backend(f"{scheme}://localhost?tls=1&tls_ca={tmp_path / 'no.pem'}")


@pytest.mark.parametrize("scheme", ["redis", "glide"])
async def test_a_password_that_rotates_is_asked_for_with_each_connection(server, scheme):
    password, asked = "first", 0

    async def credentials():
        nonlocal asked
        asked += 1
        return "app", password

    async with Redis(port=server.port) as admin:
        await admin.execute_command("ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all")
        metrics = RecordingMetrics()
        async with connect(f"{scheme}://{server.address}", credentials=credentials) as backend:
            async with Promoter(backend, "q", PromoterSettings(lock_ttl_ms=1_000), metrics=[metrics]).running():
                await until(lambda: metrics.ticks)
                await admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">second")
                password, before = "second", asked
                await DelayedQueue(backend, "q").schedule(1, delay=0.05)
                await until(lambda: metrics.promoted == 1)
                await admin.execute_command("CLIENT", "KILL", "USER", "app")
                await admin.zadd("{chasqui:q}:delayed", {member("b"): 1})
                await until(lambda: metrics.promoted == 2, 20)
                assert asked > before
        async with connect(f"{scheme}://{server.address}", credentials=credentials) as backend:
            assert (await backend.stats("q")).stream_len == 2


def test_credentials_and_a_password_in_the_url_are_too_much():
    async def credentials():
        return None, "x"

    with pytest.raises(ConfigError, match="not both"):
        Registry().backend("redis://:s3cret@localhost", credentials=credentials)


@pytest.mark.parametrize("url", ["redis://me:s3cret@{}", "glide://me:s3cret@{}", "redis+sentinel://me:s3cret@{}/main"])
async def test_a_password_is_in_no_log_error_or_repr(valkey, url, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    shown = []
    try:
        backend = Registry().backend(url.format(valkey.address))
        shown += [repr(backend), repr(vars(backend))]
        await backend.open()
    except PromoterError as error:
        cause: BaseException | None = error
        while cause is not None:
            shown += [str(cause), repr(cause)]
            cause = cause.__cause__
    finally:
        await backend.close()
    await asyncio.sleep(0)
    out, err = capfd.readouterr()
    assert shown
    assert "s3cret" not in caplog.text + out + err + "".join(shown)
