"""By which name a browser has reached us, and whose pages may connect."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from ...settings import Settings

LOCAL = re.compile(r"([a-z0-9-]+\.)*localhost", re.ASCII)

Origins = str | Sequence[str] | Callable[[str | None, Mapping[str, Any]], bool] | None
"""As python-socketio takes them; None: of those who are asked for by the same name and port."""


def local_name(host: str) -> str | None:
    """The name in a `Host`, if it is an address or localhost; None for one that is in the DNS.

    A stranger's page could let its own name point to this machine, and read tokens as one of ours.
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
    """Those of CORS_ORIGINS; in development anybody's if it is empty, and the playground in any case."""
    named = settings.cors_origins
    if not named:
        return None if settings.production else "*"
    if not settings.playground or "*" in named:
        return list(named)

    def allowed(origin: str | None, environ: Mapping[str, Any]) -> bool:
        if origin in named:
            return True
        # The page comes from the other port of whatever it asks for a socket.
        name = local_name(environ.get("HTTP_HOST", ""))
        port = "" if settings.port == 80 else f":{settings.port}"
        return name is not None and origin == f"http://{name}{port}"

    return allowed
