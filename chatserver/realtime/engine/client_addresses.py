"""The addresses of clients, and the number of sessions of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web

from ..memory import Memory

IpAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+")
SITE_BITS = 64
"""The bits of an IPv6 address by which sessions are counted. A client can change the rest whenever it likes."""


class Addresses:
    """Counts sessions by client address.

    `limit`: the most sessions that an address may have, or 0 for no limit. `proxies`: the networks of the
    proxies whose X-Forwarded-For is trusted. Any client can send that header, so no other is trusted.
    """

    def __init__(self, limit: int, proxies: Iterable[Network]) -> None:
        self._limit = limit
        self._proxies = tuple(proxies)
        self._sessions: dict[str, int] = {}

    def watch(self, memory: Memory) -> None:
        memory("addresses of clients", lambda: len(self._sessions), None)

    def of(self, request: web.BaseRequest) -> str:
        """Returns the client's address, or an empty string if it has none (a Unix socket)."""
        address = _parsed(request.remote or "")
        if address is None:
            return ""
        hops = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        # From the last hop backwards: each proxy appended the address from which it got the request.
        # The client may have forged everything before the first address that is not a trusted proxy.
        while hops and self._trusts(address):
            before = _parsed(hops.pop())
            if before is None:
                break
            address = before
        return str(address)

    def enter(self, address: str) -> bool:
        """Count a session. Returns False, without counting it, if the address has too many. For each counted
        session `leave` must be called with the same address."""
        if not self._limit or not address:
            return True
        network = _network(address)
        count = self._sessions.get(network, 0)
        if count >= self._limit:
            return False
        self._sessions[network] = count + 1
        return True

    def leave(self, address: str) -> None:
        if not self._limit or not address:
            return
        network = _network(address)
        self._sessions[network] -= 1
        if not self._sessions[network]:
            del self._sessions[network]

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self._proxies)


def _network(address: str) -> str:
    known = ip_address(address)
    if isinstance(known, IPv4Address):
        return address
    return str(IPv6Network((known, SITE_BITS), strict=False))


def _parsed(text: str) -> IpAddress | None:
    text = text.strip().partition("%")[0]
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2] or ""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
