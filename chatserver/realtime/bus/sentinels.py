"""Redis Sentinels, which know the server that is the master."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PORT = 26379
PATIENCE_S = 0.5
"""The time-out for each Sentinel. One that does not answer must not keep us from asking the next."""


@dataclass(frozen=True)
class Sentinels:
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"the master of {self.service} at the Sentinels {hosts}"

    async def master(self) -> tuple[str, int]:
        """Returns the host and port of the master. Raises OSError if no Sentinel names one."""
        retry = Retry(NoBackoff(), 0)
        patience = {"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S}
        options = {**self.options, **patience, "retry": retry, "protocol": 2}
        asked = Sentinel(self.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        async with asked:
            try:
                host, port = await asked.discover_master(self.service)
            except RedisError as error:
                raise OSError(str(error)) from error
        return str(host), int(port)


def parse(rest: str, *, tls: bool) -> tuple[Sentinels, str]:
    """Parse the part of a URL after `redis+sentinel://`. Returns the Sentinels, and the same part of a URL
    for one Redis.

    `[user:password@]host[:port],host[:port]…/service[/db]`, or `/db/service` as in python-socketio. The
    Sentinels' own password goes into the query: `?sentinel_username=…&sentinel_password=…`.
    Raises ValueError.
    """
    parts = urlsplit("//" + rest)
    login, _, hosts = parts.netloc.rpartition("@")
    names = [part for part in parts.path.split("/") if part]
    if len(names) == 2 and names[0].isdecimal():
        names.reverse()
    if not hosts or len(names) not in (1, 2):
        raise ValueError("hosts, a service")
    service, db = names[0], "".join(names[1:])
    query = dict(parse_qsl(parts.query))
    options: dict[str, Any] = {
        key.removeprefix("sentinel_"): query.pop(key)
        for key in ("sentinel_username", "sentinel_password")
        if key in query
    }
    if tls:
        # The Sentinels' certificates come from the same authority.
        known = parse_url(f"rediss://master?{urlencode(query)}")
        options |= {key: value for key, value in known.items() if key.startswith("ssl_")}
        options["ssl"] = True
    found = Sentinels(tuple(_host(host) for host in hosts.split(",")), service, options)
    return found, f"{login}@master/{db}?{urlencode(query)}"


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit("//" + text)
    if not parts.hostname:
        raise ValueError("a host")
    return parts.hostname, parts.port or PORT
