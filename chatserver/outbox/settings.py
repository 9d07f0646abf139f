"""The settings of webhooks: WEBHOOK_URL, a file of endpoints (config/webhooks.example.toml), or both."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvError, validate

from .endpoints import Endpoint
from .event import TYPES
from .sinks.ssrf_guard import refusal_of_host

DEFAULT = "default"
"""The name of WEBHOOK_URL's endpoint."""
NAME = re.compile(r"[a-z0-9-]{1,32}")
FIELDS = ("url", "secret", "types")
MAX_URL = 2048


class BadEndpoint(Exception):
    """An endpoint is configured wrongly. The message says how, and contains no secret."""


def read(env: Env, *, min_secret_bytes: int) -> dict[str, Any]:
    """The webhook settings, by their names in Settings, except WEBHOOK_SECRET. Raises EnvError.

    `min_secret_bytes`: the minimum length of a secret in the file.
    """
    day = 24 * 3600.0
    on_or_off = validate.OneOf(["on", "off"])
    seconds = env.float
    values: dict[str, Any] = {
        "webhook_url": env.str("WEBHOOK_URL", "").strip(),
        "webhook_relay": env.str("WEBHOOK_RELAY", "on", validate=on_or_off) == "on",
        "webhook_timeout_s": seconds("WEBHOOK_TIMEOUT_S", 10.0, validate=validate.Range(0.1, 60)),
        "webhook_concurrency": env.int("WEBHOOK_CONCURRENCY", 64, validate=validate.Range(1, 1000)),
        "webhook_retry_first_s": seconds(
            "WEBHOOK_RETRY_FIRST_S", 1.0, validate=validate.Range(0.01, 3600)
        ),
        "webhook_retry_max_s": seconds(
            "WEBHOOK_RETRY_MAX_S", 3600.0, validate=validate.Range(0.01, day)
        ),
        "webhook_give_up_s": seconds(
            "WEBHOOK_GIVE_UP_S", day, validate=validate.Range(0.1, 30 * day)
        ),
        "webhook_allow_link_local": env.bool("WEBHOOK_ALLOW_LINK_LOCAL", False),
    }
    if values["webhook_retry_max_s"] < values["webhook_retry_first_s"]:
        raise EnvError("WEBHOOK_RETRY_MAX_S is less than WEBHOOK_RETRY_FIRST_S.")
    allow = values["webhook_allow_link_local"]
    if values["webhook_url"]:
        try:
            _check_url(values["webhook_url"], allow_link_local=allow)
        except BadEndpoint as wrong:
            raise EnvError(f"WEBHOOK_URL: {wrong}") from None
    file = env.str("WEBHOOKS_FILE", "").strip()
    values["webhook_endpoints"] = tuple(
        _endpoint(file, name, table, min_secret_bytes=min_secret_bytes, allow_link_local=allow)
        for name, table in (_tables(Path(file)) if file else {}).items()
    )
    if values["webhook_url"] and any(
        endpoint.name == DEFAULT for endpoint in values["webhook_endpoints"]
    ):
        raise EnvError(
            f"WEBHOOKS_FILE {file}: [{DEFAULT}] is the endpoint of WEBHOOK_URL, which is set: "
            "choose another name."
        )
    return values


def _tables(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EnvError(f"WEBHOOKS_FILE {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        # A decoding error's own text would show bytes of the file.
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise EnvError(f"WEBHOOKS_FILE {path} is not valid TOML: {reason}.") from None


def _endpoint(
    file: str, name: str, table: Any, *, min_secret_bytes: int, allow_link_local: bool
) -> Endpoint:
    where = f"WEBHOOKS_FILE {file}: [{name}]"
    if not isinstance(table, dict):
        raise EnvError(
            f"WEBHOOKS_FILE {file}: {name} is outside a table: start with a line such as [crm]."
        )
    if not NAME.fullmatch(name):
        raise EnvError(f"{where}: a name has 1 to 32 characters: a-z, 0-9 and -.")
    if unknown := [key for key in table if key not in FIELDS]:
        raise EnvError(f"{where} {unknown[0]}: unknown field; the fields are {', '.join(FIELDS)}.")
    field = "url"
    try:
        _check_url(table.get("url"), allow_link_local=allow_link_local)
        field = "secret"
        secrets = _secrets(table.get("secret"), min_secret_bytes)
        field = "types"
        types = _types(table["types"]) if "types" in table else frozenset(TYPES)
    except BadEndpoint as wrong:
        raise EnvError(f"{where} {field}: {wrong}") from None
    return Endpoint(name=name, url=table["url"], secrets=secrets, types=types)


def _check_url(url: Any, *, allow_link_local: bool) -> None:
    if url is None:
        raise BadEndpoint("is missing.")
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        raise BadEndpoint("must start with http:// or https://.")
    if len(url) > MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        raise BadEndpoint(f"must be at most {MAX_URL} characters, without spaces or backslashes.")
    try:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
        host.encode("idna")
    except ValueError:
        raise BadEndpoint("its host or port is not valid.") from None
    if not host or port == 0:
        raise BadEndpoint("must contain a host, and its port must not be 0.")
    if not allow_link_local and (why := refusal_of_host(host)):
        raise BadEndpoint(
            f"its host is {why}: events are not sent there unless WEBHOOK_ALLOW_LINK_LOCAL is true."
        )


def _secrets(given: Any, min_bytes: int) -> tuple[str, ...]:
    if given is None:
        raise BadEndpoint("is missing.")
    secrets = given if isinstance(given, list) else [given]
    if not secrets or not all(isinstance(secret, str) and secret.strip() for secret in secrets):
        raise BadEndpoint("must be a non-empty string, or a list of them, newest first.")
    if any(len(secret.encode()) < min_bytes for secret in secrets):
        raise BadEndpoint(
            f"is too short: production needs {min_bytes} bytes or more, in a list for each secret."
        )
    return tuple(secrets)


def _types(given: Any) -> frozenset[str]:
    known = f"The types are {', '.join(TYPES)}."
    if not isinstance(given, list) or not given:
        raise BadEndpoint(f"must be a list of event types; leave it out for all types. {known}")
    if wrong := [type_ for type_ in given if type_ not in TYPES]:
        raise BadEndpoint(f"{str(wrong[0])[:64]!r} is not an event type. {known}")
    return frozenset(given)
