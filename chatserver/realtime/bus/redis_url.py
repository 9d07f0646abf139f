"""The address of Redis and the login."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import RedisError

from . import sentinels
from .sentinels import Sentinels

P = TypeVar("P", bound=asyncio.Protocol)

SENTINEL = "+sentinel"
SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
ESCAPES = "In a password, / is written %2F, @ %40, : %3A, ? %3F, # %23 and % %25."


class BadAddress(ValueError):
    """The URL is not an address of Redis. The message is a sentence that quotes nothing from the URL."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """The address of one Redis, or of Sentinels that know the master. `str` and `repr` show no secret."""

    host: str = ""
    port: int = 0
    path: str = ""
    """The path of a Unix socket, instead of host and port."""
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    sentinels: Sentinels | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse one of these URLs:

        `redis://[[user]:password@]host[:port][/db]`, or `rediss://` with TLS;
        `redis+sentinel://[[user]:password@]host[:port],host[:port]…/service[/db]`, or `rediss+sentinel://`;
        `unix://[[user]:password@]/path[?db=1]`. `valkey` may replace `redis`. redis-py's `ssl_…` options may
        follow after `?`.

        Raises BadAddress, also if a certificate file cannot be read.
        """
        scheme, separator, rest = url.partition("://")
        plain = scheme.lower().removesuffix(SENTINEL)
        kind = "unix" if scheme.lower() == "unix" else SCHEMES.get(plain)
        if not separator or kind is None:
            raise BadAddress(
                "Must start with redis://, rediss://, valkey://, valkeys://, unix:// or redis+sentinel://."
            )
        try:
            asked = None
            if scheme.lower() != plain:
                asked, rest = sentinels.parse(rest, tls=kind == "rediss")
            return cls._of(f"{kind}://{rest}", asked)
        except ssl.SSLError as error:
            raise BadAddress(f"Its certificates cannot be used: {error.reason}.") from None
        except OSError as error:
            raise BadAddress(f"Its certificates cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, RedisError) as error:
            # Their messages may quote part of the URL, and that part may be a password.
            raise BadAddress(_reason(error)) from None

    @classmethod
    def _of(cls, url: str, asked: Sentinels | None) -> Address:
        parts = urlsplit(url)
        db = parts.path.removeprefix("/")
        if parts.scheme != "unix" and db and not db.isdecimal():
            # redis-py would ignore the database, and take half of a password for a host.
            raise BadAddress(f"Only a database number may follow the host. {ESCAPES}")
        options: dict[str, Any] = dict(parse_url(url))
        known = options.pop("connection_class", Connection)(**options)
        if known.username and not known.password:
            raise BadAddress("It has a user without a password.")
        common: dict[str, Any] = {
            "username": known.username or "",
            "password": known.password or "",
            "db": int(known.db),
            "sentinels": asked,
        }
        if isinstance(known, UnixDomainSocketConnection):
            if not known.path:
                raise BadAddress("The path of the socket is missing, as in unix:///run/redis.sock.")
            return cls(path=known.path, **common)
        tls = known.ssl_context.get() if isinstance(known, SSLConnection) else None
        return cls(host=known.host, port=known.port, tls=tls, **common)

    def __str__(self) -> str:
        if self.sentinels:
            return str(self.sentinels)
        return self.path or f"{self.host}:{self.port}"

    async def find(self) -> Address:
        """Returns the server to connect to: this one, or the master that the Sentinels name.

        Raises OSError if no Sentinel names one.
        """
        if self.sentinels is None:
            return self
        host, port = await self.sentinels.master()
        return Address(
            host=host, port=port, tls=self.tls, username=self.username, password=self.password
        )

    async def connect(self, protocol: P) -> P:
        """Connect. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self.path:
            await loop.create_unix_connection(lambda: protocol, self.path)
        else:
            await loop.create_connection(lambda: protocol, self.host, self.port, ssl=self.tls)
        return protocol

    def redacted(self, words: str) -> str:
        """Returns a message of the server without the password. Old servers repeat commands that they do not
        understand, and so the password."""
        return words.replace(self.password, "***") if self.password else words


def _reason(error: Exception) -> str:
    if isinstance(error, BadAddress):
        return str(error)
    return f"Is not a URL such as redis://:password@host:6379/0. {ESCAPES}"
