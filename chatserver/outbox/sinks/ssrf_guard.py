"""Addresses to which no event is posted, unless the operator allows it.

Loopback and private networks are allowed: the Master Service is usually there. Link-local addresses are
refused: at such an address a cloud gives the machine's credentials to any process that asks. Anyone who
controls a DNS name, or one line of the settings, could otherwise make this server send requests there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

METADATA = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # AWS ECS: the credentials of a task
        "169.254.170.23",  # AWS EKS: the credentials of a pod
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle (Classic)
        "168.63.129.16",  # Azure: the host of the machine
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",  # AWS EKS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    )
)
"""Addresses at which clouds give out credentials. Some are outside the link-local networks."""

THIS_NETWORK = IPv4Network("0.0.0.0/8")
BROADCAST = IPv4Address("255.255.255.255")

LOW_32_BITS = (
    IPv6Network("::/96"),  # IPv4-compatible
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 7915)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use (RFC 8215), in its usual layout
)
"""IPv6 networks whose addresses contain an IPv4 address in their last 32 bits."""

AddressInfo = tuple[Any, ...]
"""An element of the result of `socket.getaddrinfo`: family, type, protocol, name, address."""


class RefusedAddress(OSError):
    """The address must not be connected to. The message says why, without the address."""


def refusal(address: str) -> str | None:
    """The reason to refuse this IP address ("link-local", "multicast" …); None if it is allowed.

    An IPv4 address inside an IPv6 address is checked, too. Text that is not an IP address is refused.
    """
    try:
        outer = ip_address(address.partition("%")[0])  # without the interface
    except ValueError:
        return "not an IP address"
    return next((why for inner in _all_of(outer) if (why := _refusal(inner))), None)


def refusal_of_host(host: str) -> str | None:
    """The reason to refuse the host of a URL, if the host is an address in any notation that resolvers accept
    (`2852039166` is 169.254.169.254). None for a name, whose addresses are checked at each connect.
    """
    host = host.strip("[]")
    try:
        ip_address(host)
    except ValueError:
        try:
            host = socket.inet_ntoa(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return refusal(host)


def guarded_socket(info: AddressInfo) -> socket.socket:
    """A socket factory for aiohttp, which calls it for each address just before connecting.

    aiohttp has resolved the name before, and also calls it for an address in the URL. The address that is
    checked is the one that is connected to, so changing the DNS name does not help an attacker. Raises
    RefusedAddress.
    """
    family, kind, protocol, _, address = info
    if why := refusal(address[0]):
        raise RefusedAddress(f"its address is {why}")
    return socket.socket(family, kind, protocol)


def plain_socket(info: AddressInfo) -> socket.socket:
    """A socket factory that does not check the address."""
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)


def _refusal(address: IPv4Address | IPv6Address) -> str | None:
    if address in METADATA:
        return "a cloud's metadata service"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified or address in THIS_NETWORK:
        return "unspecified"
    if address == BROADCAST:
        return "broadcast"
    return None


def _all_of(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address, and the IPv4 addresses that it may contain."""
    yield address
    if isinstance(address, IPv4Address) or address.is_loopback:
        return
    if any(address in network for network in LOW_32_BITS):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
