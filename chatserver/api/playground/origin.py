"""Checks the host that a browser requests, and the origins of pages that connect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from ...settings import Settings

LOCAL = re.compile(r"([a-z0-9-]+\.)*localhost", re.ASCII)

Origins = str | Sequence[str] | Callable[[str | None, Mapping[str, Any]], bool] | None
"""Allowed origins, in python-socketio's format. None: only pages from the same host and port."""


def local_name(host: str) -> str | None:
    """Returns the host in a `Host` header if it is an IP address or localhost; None for a DNS name.

    An attacker could point a DNS name at this machine (DNS rebinding). A page under that name would then
    have our origin, and could read tokens.
    """
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if LOCAL.fullmatch(name):
        return name
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return name


def origins(settings: Settings) -> Origins:
    """Returns the origins in CORS_ORIGINS. In development an empty CORS_ORIGINS allows every origin, and the
    playground is always allowed."""
    named = settings.cors_origins
    if not named:
        return None if settings.production else "*"
    if not settings.playground or "*" in named:
        return list(named)

    def allowed(origin: str | None, environ: Mapping[str, Any]) -> bool:
        if origin in named:
            return True
        # The page comes from `settings.port` of the host to which it connects the socket.
        name = local_name(environ.get("HTTP_HOST", ""))
        port = "" if settings.port == 80 else f":{settings.port}"
        return name is not None and origin == f"http://{name}{port}"

    return allowed
