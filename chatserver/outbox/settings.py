"""The settings of webhooks: WEBHOOK_URL, a file of endpoints (config/webhooks.example.toml), or both."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from environs import Env, EnvError, validate

from .endpoints import BadEndpoint, Endpoint, SinkOptions
from .event import TYPES
from .sinks.registry import sink_of
from .sinks.sink import Sink

DEFAULT = "default"
"""The name of WEBHOOK_URL's endpoint."""
NAME = re.compile(r"[a-z0-9-]{1,32}")
FIELDS = ("url", "secret", "types")
MAX_URL = 4096


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
        "webhook_options": SinkOptions(
            timeout_s=seconds("WEBHOOK_TIMEOUT_S", 10.0, validate=validate.Range(0.1, 60)),
            concurrency=env.int("WEBHOOK_CONCURRENCY", 64, validate=validate.Range(1, 1000)),
            allow_link_local=env.bool("WEBHOOK_ALLOW_LINK_LOCAL", False),
        ),
        "webhook_retry_first_s": seconds(
            "WEBHOOK_RETRY_FIRST_S", 1.0, validate=validate.Range(0.01, 3600)
        ),
        "webhook_retry_max_s": seconds(
            "WEBHOOK_RETRY_MAX_S", 3600.0, validate=validate.Range(0.01, day)
        ),
        "webhook_give_up_s": seconds(
            "WEBHOOK_GIVE_UP_S", day, validate=validate.Range(0.1, 30 * day)
        ),
    }
    if values["webhook_retry_max_s"] < values["webhook_retry_first_s"]:
        raise EnvError("WEBHOOK_RETRY_MAX_S is less than WEBHOOK_RETRY_FIRST_S.")
    options = values["webhook_options"]
    if values["webhook_url"]:
        try:
            _sink(values["webhook_url"], options)
        except BadEndpoint as wrong:
            raise EnvError(f"WEBHOOK_URL: {wrong}") from None
    file = env.str("WEBHOOKS_FILE", "").strip()
    values["webhook_endpoints"] = tuple(
        _endpoint(file, name, table, options, min_secret_bytes=min_secret_bytes)
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
    file: str, name: str, table: Any, options: SinkOptions, *, min_secret_bytes: int
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
        sink = _sink(table.get("url"), options)
        field = "secret"
        asked = sink.needs_secret or "secret" in table
        secrets = _secrets(table.get("secret"), min_secret_bytes) if asked else ()
        field = "types"
        types = _types(table["types"]) if "types" in table else frozenset(TYPES)
    except BadEndpoint as wrong:
        raise EnvError(f"{where} {field}: {wrong}") from None
    return Endpoint(name=name, url=table["url"], secrets=secrets, types=types, options=options)


def _sink(url: Any, options: SinkOptions) -> type[Sink]:
    """The sink of a valid URL."""
    if url is None:
        raise BadEndpoint("is missing.")
    sink = sink_of(url if isinstance(url, str) else "")
    if len(url) > MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        raise BadEndpoint(f"must be at most {MAX_URL} characters, without spaces or backslashes.")
    sink.check(url, options)
    return sink


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
