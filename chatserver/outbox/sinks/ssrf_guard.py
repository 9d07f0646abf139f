"""Addresses that nothing is ever posted to, unless the operator allows it.

Loopback and private networks are where the Master Service lives: they are fine. Link-local addresses
are not: behind them a cloud answers whoever asks with the credentials of the machine, and whoever can
set a name in the DNS, or one line of the settings, would make this server knock there.
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
"""Where clouds hand out credentials; some of them lie outside the link-local networks."""

THIS_NETWORK = IPv4Network("0.0.0.0/8")
BROADCAST = IPv4Address("255.255.255.255")

LOW_32_BITS = (
    IPv6Network("::/96"),  # IPv4-compatible
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 7915)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own network (RFC 8215), as most lay it out
)
"""IPv6 networks whose addresses stand for the IPv4 address in their last bits."""

AddressInfo = tuple[Any, ...]
"""As of `socket.getaddrinfo`: family, type, protocol, name, address."""


class RefusedAddress(OSError):
    """Never to be connected to; the message says why without naming the address."""


def refusal(address: str) -> str | None:
    """Why nothing is posted to this IP address: "link-local", "multicast" …; None: it is fine.

    An IPv4 address that is wrapped in an IPv6 one is looked at too. What is no IP address at all is
    refused.
    """
    try:
        outer = ip_address(address.partition("%")[0])  # without the interface
    except ValueError:
        return "not an IP address"
    return next((why for inner in _all_of(outer) if (why := _refusal(inner))), None)


def refusal_of_host(host: str) -> str | None:
    """The same for the host of a URL when it is an address, in any notation that a resolver takes for
    one (`2852039166` is 169.254.169.254); None for a name: what it stands for is seen at each connect.
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
    """A socket factory for aiohttp, which asks for a socket per address, just before it connects.

    That is after the DNS, and for addresses in URLs as well: what is looked at here is what is
    connected to, whatever a name stood for a moment ago. Raises RefusedAddress.
    """
    family, kind, protocol, _, address = info
    if why := refusal(address[0]):
        raise RefusedAddress(f"its address is {why}")
    return socket.socket(family, kind, protocol)


def plain_socket(info: AddressInfo) -> socket.socket:
    """The same without a look at the address."""
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
    """The address, and the IPv4 addresses that it may stand for."""
    yield address
    if isinstance(address, IPv4Address) or address.is_loopback:
        return
    if any(address in network for network in LOW_32_BITS):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
