"""Help for developers: secrets that survive a restart, tokens, and a first message to send."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from .settings import SECRETS, BadSettings, Settings

DURATION = re.compile(r"(\d+)([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Person:
    """A fictional person in the demo and the playground."""

    id: str
    name: str
    types: float = 1.0
    """Typing speed, relative to a person of average speed."""


PEOPLE = (
    Person("alice", "Alice Berg", 1.2),
    Person("bob", "Bob Okafor", 0.8),
    Person("carol", "Carol Lindqvist"),
    Person("dmitri", "Dmitri Volkov", 0.9),
    Person("elena", "Elena Rossi", 1.4),
    Person("farid", "Farid Haddad"),
    Person("grace", "Grace Nakamura", 1.1),
    Person("henrik", "Henrik Sørensen", 0.7),
)

FIRST_MESSAGE = """\
const token = "{token}";
import("socket.io-client").then(async ({{ io }}) => {{
  const direct = await fetch("{rest}/api/conversations/direct", {{ method: "POST", body: '{{"userId":"bob"}}', headers: {{ authorization: `Bearer ${{token}}`, "content-type": "application/json" }} }});
  const conversationId = (await direct.json()).id, socket = io("{sockets}", {{ auth: {{ token }}{transports} }});
  socket.emit("message:send", {{ conversationId, content: "Hello, Bob!" }}, (answer) => {{ console.log(answer); socket.close(); }});
}});"""
"""Runs in Node: pasted at its prompt, as a CommonJS file, or as an ES module."""


def keep_secrets(settings: Settings) -> Settings:
    """Returns settings with the secrets in DATA_DIR/secrets.json instead of newly generated ones.

    Tokens therefore stay valid when the server restarts. The file is created if it is missing. Raises
    BadSettings.
    """
    if not settings.made:
        return settings
    path = settings.data_dir / "secrets.json"
    try:
        if not path.exists():
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump({key: secrets.token_urlsafe(32) for key in SECRETS}, file, indent=2)
            try:
                # Unlike a rename, a link fails if another server has just created the file.
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        kept = json.loads(path.read_text())
        made = {key: str(kept[key]) for key in settings.made}
    except OSError as error:
        raise BadSettings(f"DATA_DIR cannot be used: {error}.") from None
    except (ValueError, KeyError, TypeError):
        raise BadSettings(f"{path} is damaged. Remove it, and new secrets are generated.") from None
    values: dict[str, Any] = {key.lower(): (secret,) for key, secret in made.items()}
    return replace(settings, made=made, **values)


def duration(text: str) -> timedelta:
    """Parses `30s`, `15m`, `1h` or `7d`. Raises ValueError."""
    match = DURATION.fullmatch(text)
    if not match or not int(match[1]):
        raise ValueError(f"{text!r} is not a duration such as 30s, 15m, 1h or 7d.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def token(settings: Settings, user: str, name: str | None, lifetime: timedelta) -> str:
    """Returns a token like those of the Master Service, signed with the newest secret.

    Raises BadSettings.
    """
    if settings.auth_jwks_url or not settings.auth_jwt_secret:
        raise BadSettings(
            "AUTH_JWKS_URL is set: only the holder of the private key can sign a token."
        )
    now = datetime.now(UTC)
    claims = {
        "sub": user,
        "name": name,
        "iat": now,
        "exp": now + lifetime,
        "iss": next(iter(settings.auth_jwt_issuer), ""),
        "aud": next(iter(settings.auth_jwt_audience), ""),
    }
    given = {key: value for key, value in claims.items() if value}
    return jwt.encode(given, settings.auth_jwt_secret[0], algorithm="HS256")


def greeting(settings: Settings, *, polling: bool = True) -> list[str]:
    """Returns the lines printed at a start in development: URLs, tokens and a first message."""
    rest, sockets = address(settings.host, settings.port), address(settings.host, settings.ws_port)
    lines = [f"Socket.IO   {sockets}", f"REST        {rest}/api"]
    if settings.docs:
        lines.append(f"Docs        {rest}/docs")
    if settings.playground:
        lines.append(f"Playground  {rest}/playground")
    lines += [f"{key:20} {secret}" for key, secret in settings.made.items()]
    if settings.auth_jwks_url:
        return lines
    week = timedelta(days=7)
    alice, bob = (token(settings, name.lower(), name, week) for name in ("Alice", "Bob"))
    lines += [
        "",
        "Development tokens, valid for 7 days:",
        f"alice       {alice}",
        f"bob         {bob}",
    ]
    lines += ["", "A first message from Alice to Bob (npm install socket.io-client, then node):"]
    transports = "" if polling else ', transports: ["websocket"]'
    first = FIRST_MESSAGE.format(token=alice, rest=rest, sockets=sockets, transports=transports)
    return [*lines, *first.splitlines()]


def address(hosts: Sequence[str], port: int) -> str:
    """Returns the URL at which a program on this machine reaches a listener on `hosts` and `port`."""
    host = hosts[0]
    shown_as = dict.fromkeys(("localhost", "0.0.0.0", "::"), "127.0.0.1")  # noqa: S104
    shown = shown_as.get(host) or (f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
