"""URLs of Redis, and the reasons why a node cannot use a server."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from chatserver.realtime.bus import Address, BadAddress
from tests.support.nodes_of_a_bus import Joining, until
from tests.support.redises import Keeping, RedisServer, SentinelServer
from tests.support.servers import free_port


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_a_node_connects_with_tls_and_a_password(
    node: Joining, redis_of: Keeping, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, key = certificate(tmp_path, "ours")
    theirs, _ = certificate(tmp_path, "theirs")
    port = free_port()
    await redis_of(
        tls_port=str(port),
        tls_cert_file=str(ours),
        tls_key_file=str(key),
        tls_ca_cert_file=str(ours),
        tls_auth_clients="no",
        requirepass="s3cret/word",
    )
    at = f"127.0.0.1:{port}"
    oslo = await node(f"rediss://:s3cret%2Fword@{at}/0?ssl_ca_certs={ours}")
    lima = await node(f"valkeys://default:s3cret%2Fword@{at}?ssl_ca_certs={ours}")
    assert oslo.bus.up
    await oslo.bus.subscribe("r:1")
    assert await lima.says("r:1", b"In confidence") == 1
    await until(lambda: oslo.received)
    caplog.clear()
    for url, why in (
        (f"rediss://:s3cret%2Fword@{at}?ssl_ca_certs={theirs}", "certificate verify failed"),
        (f"rediss://:s3cret%2Fword@{at}", "certificate verify failed"),
        (f"rediss://:wr0ng@{at}?ssl_ca_certs={ours}", "WRONGPASS"),
        (f"rediss://{at}?ssl_ca_certs={ours}", "NOAUTH"),
    ):
        assert not (await node(url)).bus.up
        assert why in caplog.messages[-1]
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


async def test_a_node_connects_as_a_user_who_may_only_use_the_prefix(
    node: Joining, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with own_redis.client() as redis:
        await redis.execute_command(
            *("ACL", "SETUSER", "node", "reset", "on", ">pw", "&chat:*"),
            *("+publish", "+subscribe", "+unsubscribe", "+ping"),
        )
    url = f"valkey://node:pw@127.0.0.1:{own_redis.port}"
    oslo = await node(url)
    await oslo.bus.subscribe("r:1")
    assert await oslo.says("r:1", b"Allowed") == 1
    # Heartbeats are allowed, too.
    await asyncio.sleep(1.2)
    assert (oslo.bus.up, oslo.lost) == (True, 0)
    other = await node(url, prefix="other:")
    assert not other.bus.up
    assert "NOPERM" in caplog.messages[-1]


async def test_a_node_connects_over_a_unix_socket(
    node: Joining, redis_of: Keeping, tmp_path: Path
) -> None:
    path = tmp_path / "redis.sock"
    await redis_of(port="0", unixsocket=str(path), requirepass="pw")
    oslo = await node(f"unix://:pw@{path}?db=1")
    await oslo.bus.subscribe("r:1")
    assert await oslo.says("r:1", b"Hello in there") == 1


async def test_sentinels_name_the_master_before_and_after_a_failover(
    node: Joining, redis_of: Keeping, tmp_path: Path
) -> None:
    master = await redis_of()
    replica = await redis_of(replicaof=f"127.0.0.1 {master.port}")
    sentinel = SentinelServer(tmp_path / "sentinel", master)
    await sentinel.start()
    try:
        await sentinel.knows_a_replica()
        dead = f"127.0.0.1:{free_port()}"
        url = f"redis+sentinel://{dead},127.0.0.1:{sentinel.port}/the-chat"
        oslo, lima = await node(url), await node(url)
        await lima.bus.subscribe("r:1")
        assert await oslo.says("r:1", b"Long live the master") == 1
        await master.kill()
        await until(lambda: oslo.lost and lima.lost, 2)
        await until(lambda: oslo.bus.up and lima.bus.up, 15)
        assert await oslo.says("r:1", b"Long live the new one") == 1
        assert await replica.clients()
    finally:
        await sentinel.stop()


async def test_a_node_leaves_a_master_that_the_sentinels_no_longer_name(
    node: Joining, redis_of: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatserver.realtime.bus.connection_pair.SENTINELS_S", 0.2)
    old, new = await redis_of(), await redis_of()
    sentinel = SentinelServer(tmp_path / "sentinel", old)
    await sentinel.start()
    try:
        oslo = await node(sentinel.url)
        await asyncio.sleep(1)
        assert oslo.lost == 0
        async with sentinel.client() as asked:
            await asked.sentinel_remove("the-chat")
            await asked.sentinel_monitor("the-chat", "127.0.0.1", new.port, 1)
        await until(lambda: oslo.lost and oslo.bus.up)
        assert not await old.clients()
        assert await new.clients()
        await sentinel.kill()
        await asyncio.sleep(1)
        # Without Sentinels the node keeps its master.
        assert (oslo.lost, oslo.bus.up) == (1, True)
    finally:
        await sentinel.stop()


async def test_a_cluster_is_refused(
    node: Joining, redis_of: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    server = await redis_of(cluster_enabled="yes", cluster_port=str(free_port()))
    assert not (await node(server.url)).bus.up
    assert "Cluster" in caplog.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://redis", "redis:6379"),
        ("redis://:pw@redis:6380/3", "redis:6380"),
        ("VALKEY://me:pw@redis/", "redis:6379"),
        ("rediss://me:p%40w@[::1]:6380", "::1:6380"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("redis+sentinel://a,b:1/chat", "the master of chat at the Sentinels a:26379,b:1"),
        ("valkeys+sentinel://:pw@a/chat/2", "the master of chat at the Sentinels a:26379"),
        ("redis+sentinel://a/2/chat", "the master of chat at the Sentinels a:26379"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert str(Address.parse(url)) == shown


def test_an_address_has_the_parts_of_its_url() -> None:
    address = Address.parse("redis+sentinel://me:p%40w@a:1/2/chat?sentinel_password=other")
    assert (address.username, address.password, address.db) == ("me", "p@w", 2)
    assert address.sentinels is not None
    assert address.sentinels.options == {"password": "other"}
    assert "p@w" not in repr(address)
    assert "other" not in repr(address)
    secure = Address.parse("rediss+sentinel://a/chat?ssl_check_hostname=no&ssl_cert_reqs=none")
    assert secure.tls is not None
    assert secure.sentinels is not None
    assert secure.sentinels.options == {
        "ssl": True,
        "ssl_check_hostname": False,
        "ssl_cert_reqs": "none",
    }


@pytest.mark.parametrize(
    "url",
    [
        "redis",
        "http://:s3cret@redis:6379",
        "unix+sentinel:///s3cret/chat",
        "redis+cluster://:s3cret@redis",
        "redis://:s3cret/s3cret@redis:6379/0",
        "redis://:1/s3cret@redis:6379/0",
        "redis://:s3#cret@redis:6379/0",
        "redis://redis:s3cret",
        "redis://redis:65536",
        "redis://redis/s3cret",
        "redis://redis?s3cret=1",
        "redis://redis?db=s3cret",
        "redis://s3cret@redis",
        "rediss://redis?ssl_ca_certs=/nowhere",
        "rediss://redis?ssl_cert_reqs=s3cret",
        "unix://",
        "redis+sentinel://a",
        "redis+sentinel:///chat",
        "redis+sentinel://a:s3cret/chat",
        "redis+sentinel://a,,b/chat",
        "redis+sentinel://a/chat/name",
        "redis+sentinel://a/1/2/3",
    ],
)
def test_a_bad_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(BadAddress) as raised:
        Address.parse(url)
    assert str(raised.value).endswith(".")
    assert "s3" not in str(raised.value)
