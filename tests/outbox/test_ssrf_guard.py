"""No event is posted to link-local and metadata addresses, however they are written or resolved."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from chatserver.outbox.sinks.sink import Delivery
from chatserver.outbox.sinks.ssrf_guard import METADATA, refusal, refusal_of_host
from tests.support.one_event import event, posting
from tests.support.receiver import Receiver

REFUSED = {
    "169.254.169.254": "a cloud's metadata service",
    "169.254.7.7": "link-local",
    "100.100.100.200": "a cloud's metadata service",
    "192.0.0.192": "a cloud's metadata service",
    "168.63.129.16": "a cloud's metadata service",
    "fd00:ec2::254": "a cloud's metadata service",
    "fd00:ec2::254%eth0": "a cloud's metadata service",
    "fd20:ce::254": "a cloud's metadata service",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "febf::1": "link-local",
    "0.0.0.0": "unspecified",  # noqa: S104
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "broadcast",
    "::ffff:169.254.169.254": "a cloud's metadata service",
    "::ffff:0.0.0.0": "unspecified",
    "::ffff:0:169.254.1.1": "link-local",
    "::169.254.169.254": "a cloud's metadata service",
    "64:ff9b::169.254.169.254": "a cloud's metadata service",
    "64:ff9b:1::a9fe:101": "link-local",
    "2002:a9fe:a9fe::1": "a cloud's metadata service",
    "2001:0:7f00:1::5601:5601": "a cloud's metadata service",  # Teredo: the client's bits inverted
    "localhost": "not an IP address",
}
FINE = [
    *("127.0.0.1", "127.8.9.10", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("fd12:3456::1", "93.184.216.34", "2606:2800:220:1::1", "::ffff:10.0.0.1", "192.0.0.193"),
    *("64:ff9b::10.0.0.1", "2002:0a00:0001::1", "::ffff:127.0.0.1", "169.253.255.255"),
]


@pytest.mark.parametrize(("address", "why"), REFUSED.items(), ids=REFUSED)
def test_addresses_that_are_refused(address: str, why: str) -> None:
    assert refusal(address) == why


@pytest.mark.parametrize("address", FINE)
def test_addresses_that_are_allowed(address: str) -> None:
    assert refusal(address) is None


def test_every_metadata_address_is_refused_however_it_is_wrapped() -> None:
    for address in METADATA:
        assert refusal(str(address))
        if address.version == 4:
            for prefix in ("::ffff:", "64:ff9b::", "::"):
                assert refusal(f"{prefix}{address}")


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"),
        *("[fe80::1]", "[::ffff:a9fe:a9fe]", "0", "0.0.0.0"),  # noqa: S104
    ],
)
def test_a_refused_address_as_the_host_of_a_url_is_seen_in_any_notation(host: str) -> None:
    assert refusal_of_host(host)


@pytest.mark.parametrize("host", ["example.com", "localhost", "127.0.0.1", "[::1]", "10.1", "a.b"])
def test_other_hosts_are_not_refused(host: str) -> None:
    assert refusal_of_host(host) is None


Names = Callable[..., None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Makes host names resolve to addresses: `names(rebound=["169.254.169.254"])`."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        if not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        found: list[Any] = []
        for address in known[host]:
            six = ":" in address
            where = (address, port, 0, 0) if six else (address, port)
            family = socket.AF_INET6 if six else socket.AF_INET
            found.append((family, socket.SOCK_STREAM, 6, "", where))
        return found

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lambda **more: known.update(more)


@pytest.mark.parametrize(
    ("address", "detail"),
    [
        ("169.254.169.254", "its address is a cloud's metadata service"),
        ("169.254.1.1", "its address is link-local"),
        ("fe80::1", "its address is link-local"),
        ("::ffff:169.254.1.1", "its address is link-local"),
        ("0.0.0.0", "its address is unspecified"),  # noqa: S104
        ("::", "its address is unspecified"),
    ],
)
async def test_nothing_is_posted_to_a_refused_address(
    receiver: Receiver, names: Names, address: str, detail: str
) -> None:
    names(rebound=[address])
    literal = f"[{address}]" if ":" in address else address
    for host in (literal, "rebound"):
        async with posting(f"http://{host}:{receiver.port}/") as webhook:
            assert await webhook.post(event()) == Delivery("failed", detail)
    assert not receiver.posts


async def test_a_name_is_checked_at_each_connect(receiver: Receiver, names: Names) -> None:
    names(master=["127.0.0.1"])
    async with posting(f"http://master:{receiver.port}/") as webhook:
        assert await webhook.post(event(1)) == Delivery("delivered")
        await receiver.close()
        names(master=["169.254.169.254"])
        # aiohttp caches the addresses of a name for 10 s.
        webhook._session.connector.clear_dns_cache()  # type: ignore[union-attr]
        assert await webhook.post(event(2)) == Delivery(
            "failed", "its address is a cloud's metadata service"
        )


async def test_only_the_allowed_addresses_of_a_name_are_used(
    receiver: Receiver, names: Names
) -> None:
    names(both=["169.254.169.254", "127.0.0.1"], none=["169.254.169.254", "fe80::1"])
    async with posting(f"http://both:{receiver.port}/") as webhook:
        assert await webhook.post(event()) == Delivery("delivered")
    async with posting(f"http://none:{receiver.port}/") as webhook:
        assert (await webhook.post(event())).outcome == "failed"
    assert len(receiver.posts) == 1


async def test_an_unknown_name_fails(names: Names) -> None:
    names(nobody=[])
    async with posting("http://nobody/") as webhook:
        assert await webhook.post(event()) == Delivery("failed", "no such host")


async def test_an_operator_can_allow_refused_addresses(receiver: Receiver) -> None:
    # On Linux 0.0.0.0 is this machine.
    url = receiver.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104
    async with posting(url, allow_link_local=True) as webhook:
        assert await webhook.post(event()) == Delivery("delivered")
