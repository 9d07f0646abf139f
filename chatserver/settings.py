"""The settings: typed, bounded, and read once. No other module reads the environment.

An invalid value stops the start with a message that names its key.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from environs import Env, EnvError, validate
from yarl import URL

from .outbox import settings as webhook_settings
from .outbox.endpoints import Endpoint, SinkOptions

MIN_SECRET_BYTES = 32
"""A key for HMAC-SHA256 must be at least as long as the hash (RFC 7518, section 3.2)."""

DATABASE_MARGIN_S = 0.5

SECRETS = ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET")

EXPORTER = "opentelemetry.exporter.otlp.proto.http"
"""Only the extra `tracing` installs this module. Other packages install OpenTelemetry's API, but not this."""


HOST_NAME = re.compile(r"[\w-][\w.-]*", re.ASCII)
ORIGIN = re.compile(r"(?!wss?:)[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:\d+)?", re.ASCII)
HTTP_URL = validate.Regexp(
    r"\s*(https?://([^\s/?#@]+@)?([^\s/?#@:]+|\[[0-9a-fA-F:.]+\])(:\d+)?([/?#]\S*)?)?\s*\Z",
    error="Must start with http:// or https://.",
)


class BadSettings(Exception):
    """A setting is missing or invalid. The message names its key and the reason."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    env: str = "development"
    host: tuple[str, ...] = ("localhost",)
    """Addresses and names of this machine."""
    node_name: str = ""
    """The name by which a load balancer knows this node. Empty: none."""
    port: int = 3000
    ws_port: int = 3001

    auth_jwt_secret: tuple[str, ...] = field(default=(), repr=False)
    """Newest first. Tokens signed with any of them are valid, so that a secret can be rotated."""
    auth_jwt_issuer: tuple[str, ...] = ()
    """A token must have one of them. Empty: any, or none."""
    auth_jwt_audience: tuple[str, ...] = ()
    auth_jwks_url: str = ""
    auth_leeway_s: float = 30.0
    auth_require_known_user: bool = False
    internal_api_secret: tuple[str, ...] = field(default=(), repr=False)

    webhook_secret: tuple[str, ...] = field(default=(), repr=False)
    webhook_url: str = field(default="", repr=False)
    """Not in `repr`, because a URL can contain a password."""
    webhook_endpoints: tuple[Endpoint, ...] = ()
    """The endpoints in WEBHOOKS_FILE."""
    webhook_relay: bool = True
    """True if `serve` starts a relay."""
    webhook_options: SinkOptions = field(default_factory=SinkOptions)
    webhook_retry_first_s: float = 1.0
    webhook_retry_max_s: float = 3600.0
    webhook_give_up_s: float = 24 * 3600.0

    mongo_url: str = field(default="", repr=False)
    """Empty: an embedded MongoDB that stores its data in `data_dir`."""
    mongo_database: str = "chat"
    redis_url: str = field(default="", repr=False)
    """Empty: this is the only node."""
    data_dir: Path = Path("data")

    cors_origins: tuple[str, ...] = ()
    rate_limits: bool = True
    docs: bool = True
    """True if /docs is served, on `port`."""
    playground: bool = False
    """True if /playground is served, on `port`. It gives anyone a token, so it is never on in production."""
    sockets_per_user: int = 20
    """0: no limit."""
    sockets_per_address: int = 0
    """0: no limit. The default, because a whole office or mobile network can share one address."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Proxies whose X-Forwarded-For is trusted."""
    log_level: str = "info"
    log_format: str = "json"
    """json | console"""
    tracing: bool = False
    """True if traces are sent. OpenTelemetry's SDK reads the collector and all other options itself."""

    request_timeout_s: float = 4.5
    """Seconds after which a request or an event that is not finished is answered with UNAVAILABLE."""
    message_max_chars: int = 10_000
    large_conversation: int = 200
    """A conversation with more participants is large: less is announced to all of them."""
    receipt_days: int = 30
    presence_grace_s: float = 5.0
    typing_timeout_s: float = 6.0
    ping_interval_s: float = 25.0
    ping_timeout_s: float = 20.0
    keep_alive_s: float = 75.0
    """Longer than nginx keeps an idle connection to us (60 s), so that nginx closes it and not we."""
    drain_s: float = 10.0

    made: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Secrets generated at this start because none was set (development only)."""

    @property
    def production(self) -> bool:
        return self.env == "production"

    @property
    def database_timeout_s(self) -> float:
        """The limit for a database operation. A request that waits for it can then still say so."""
        return self.request_timeout_s - DATABASE_MARGIN_S

    @property
    def max_packet(self) -> int:
        """The most bytes of a packet or a request body, where an escape counts as its character.

        A text of `message_max_chars` fits in any script, with 24 KiB for everything else.
        """
        return max(64 * 1024, 4 * self.message_max_chars + 24 * 1024)

    @property
    def redis_prefix(self) -> str:
        """The prefix of Redis channels. It has the database's name, so that installations can share a Redis."""
        return f"chat:{self.mongo_database}:"

    @property
    def webhooks(self) -> tuple[Endpoint, ...]:
        """All endpoints. The endpoint of WEBHOOK_URL is called "default"."""
        if not self.webhook_url:
            return self.webhook_endpoints
        default = Endpoint(
            name=webhook_settings.DEFAULT,
            url=self.webhook_url,
            secrets=self.webhook_secret,
            options=self.webhook_options,
        )
        return (default, *self.webhook_endpoints)

    @classmethod
    def from_environment(cls) -> Settings:
        """Reads the settings from the environment. Raises BadSettings."""
        try:
            return cls(**_read(Env()))
        except EnvError as error:
            raise BadSettings(str(error)) from None


def _read(env: Env) -> dict[str, Any]:
    port = validate.Range(0, 65535)
    positive = validate.Range(min=0.0)
    count = validate.Range(min=0)
    mongodb = validate.Regexp(r"(mongodb(\+srv)?://.+)?$", error="Must start with mongodb://.")
    database = validate.Regexp(
        r"(?!(admin|config|local)\Z)[\w-]{1,63}\Z",
        error="Must be a name of letters, digits, _ and -, and not of MongoDB's own databases.",
    )
    node = validate.Regexp(
        r"[a-z0-9-]{0,32}$", error="Must be at most 32 characters of a-z, 0-9 and -."
    )
    values: dict[str, Any] = {
        "env": env.str(
            "ENV", "development", validate=validate.OneOf(["development", "production"])
        ),
        "node_name": env.str("NODE_NAME", "", validate=node),
        "port": env.int("PORT", 3000, validate=port),
        "ws_port": env.int("WS_PORT", 3001, validate=port),
        "auth_jwt_issuer": _list(env, "AUTH_JWT_ISSUER"),
        "auth_jwt_audience": _list(env, "AUTH_JWT_AUDIENCE"),
        "auth_jwks_url": _http_url(env, "AUTH_JWKS_URL"),
        "auth_leeway_s": env.float("AUTH_LEEWAY_S", 30.0, validate=validate.Range(0.0, 3600.0)),
        "auth_require_known_user": env.bool("AUTH_REQUIRE_KNOWN_USER", False),
        "mongo_url": _mongo(env.str("MONGO_URL", "", validate=mongodb)),
        "mongo_database": env.str("MONGO_DATABASE", "chat", validate=database),
        "redis_url": _redis(env.str("REDIS_URL", "")),
        "data_dir": env.path("DATA_DIR", Path("data")),
        "cors_origins": tuple(_origin(origin) for origin in _list(env, "CORS_ORIGINS")),
        "rate_limits": env.str("RATE_LIMITS", "on", validate=validate.OneOf(["on", "off"])) == "on",
        "sockets_per_user": env.int("SOCKETS_PER_USER", 20, validate=count),
        "sockets_per_address": env.int("SOCKETS_PER_ADDRESS", 0, validate=count),
        "trusted_proxies": tuple(_network(network) for network in _list(env, "TRUSTED_PROXIES")),
        "log_level": env.str(
            "LOG_LEVEL", "info", validate=validate.OneOf(["debug", "info", "warning", "error"])
        ),
        "log_format": env.str("LOG_FORMAT", "json", validate=validate.OneOf(["json", "console"])),
        "tracing": _tracing(env),
        "request_timeout_s": env.float(
            "REQUEST_TIMEOUT_S", 4.5, validate=validate.Range(1.0, 60.0)
        ),
        "message_max_chars": env.int(
            "MESSAGE_MAX_CHARS", 10_000, validate=validate.Range(1, 50_000)
        ),
        "receipt_days": env.int("RECEIPT_DAYS", 30, validate=validate.Range(1, 36_500)),
        "large_conversation": env.int("LARGE_CONVERSATION", 200, validate=validate.Range(1, 1000)),
        "presence_grace_s": env.float("PRESENCE_GRACE_S", 5.0, validate=positive),
        "typing_timeout_s": env.float("TYPING_TIMEOUT_S", 6.0, validate=positive),
        "ping_interval_s": env.float("PING_INTERVAL_S", 25.0, validate=validate.Range(2.0)),
        "ping_timeout_s": env.float("PING_TIMEOUT_S", 20.0, validate=validate.Range(1.0)),
        "keep_alive_s": env.float("KEEP_ALIVE_S", 75.0, validate=validate.Range(1.0)),
    }
    production = values["env"] == "production"
    values["host"] = _hosts(_list(env, "HOST", "0.0.0.0" if production else "localhost"))  # noqa: S104
    values["drain_s"] = env.float("DRAIN_S", 10.0 if production else 0.0, validate=positive)
    docs = env.str("DOCS", "off" if production else "on", validate=validate.OneOf(["on", "off"]))
    values["docs"] = docs == "on"
    values["playground"] = _playground(env, production, values["auth_jwks_url"])
    values |= webhook_settings.read(env, min_secret_bytes=MIN_SECRET_BYTES if production else 1)
    made: dict[str, str] = {}
    for key in SECRETS:
        given = _list(env, key)
        if key == "AUTH_JWT_SECRET" and values["auth_jwks_url"] and not given:
            pass
        elif not given and production:
            raise EnvError(
                f"{key} is missing: production needs a secret of {MIN_SECRET_BYTES} bytes or more."
            )
        elif not given:
            made[key] = secrets.token_urlsafe(32)
            given = (made[key],)
        elif key == "INTERNAL_API_SECRET" and not all(map(str.isprintable, given)):
            raise EnvError(f"{key} contains control characters, which no header can have.")
        elif production and any(len(secret.encode()) < MIN_SECRET_BYTES for secret in given):
            raise EnvError(
                f"{key} is too short: production needs a secret of {MIN_SECRET_BYTES} bytes or more."
            )
        values[key.lower()] = given
    values["made"] = made
    return values


def _playground(env: Env, production: bool, jwks_url: str) -> bool:
    """On by default in development, if the server can sign tokens."""
    usual = "off" if production or jwks_url else "on"
    if env.str("PLAYGROUND", usual, validate=validate.OneOf(["on", "off"])) == "off":
        return False
    if production:
        raise EnvError(
            "PLAYGROUND is on, but ENV is production: the playground gives anyone a token."
        )
    if jwks_url:
        raise EnvError("PLAYGROUND is on, but AUTH_JWKS_URL is set: the server cannot sign tokens.")
    return True


def _tracing(env: Env) -> bool:
    """On if a collector is configured and no other variable turns traces off."""
    named = [
        key
        for key in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if _http_url(env, key)
    ]
    off = env.bool("OTEL_SDK_DISABLED", False)
    to = env.str("OTEL_TRACES_EXPORTER", "otlp", validate=validate.OneOf(["otlp", "none"]))
    env.str(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        validate=validate.OneOf(["http/protobuf"], error="Must be http/protobuf."),
    )
    if off or to == "none" or not named:
        return False
    if not _is_there(EXPORTER):
        raise EnvError(
            f"{named[0]} is set, but OpenTelemetry is not installed:"
            " pip install 'chatserver[tracing]'."
        )
    return True


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # for a missing parent package
        return False


def _mongo(url: str) -> str:
    if url:
        from .mongo import BadUrl, check_url  # noqa: PLC0415  not needed without it

        try:
            check_url(url)
        except BadUrl as error:
            raise EnvError(f"MONGO_URL is not a connection string: {error}") from None
    return url


def _redis(url: str) -> str:
    if url:
        from .realtime.bus import Address, BadAddress  # noqa: PLC0415  not needed without it

        try:
            Address.parse(url)
        except BadAddress as error:
            raise EnvError(f"REDIS_URL: {error}") from None
    return url


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(text)
    except ValueError as error:
        raise EnvError(f"TRUSTED_PROXIES: {error}.") from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < 96:
        return network
    # Everywhere else, an IPv4 client of an IPv6 socket has its IPv4 address.
    return IPv4Network((mapped, network.prefixlen - 96))


def _hosts(given: tuple[str, ...]) -> tuple[str, ...]:
    """`::` also stands for 0.0.0.0: every address of this machine."""
    hosts: dict[str, None] = {}
    for text in given:
        host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            ip_address(host)
        except ValueError:
            if not HOST_NAME.fullmatch(host):
                raise EnvError(
                    f"HOST: {text!r} is not an address or a name of this machine, such as 127.0.0.1,"
                    " :: or localhost; the ports are PORT and WS_PORT."
                ) from None
        hosts |= dict.fromkeys((host, "0.0.0.0") if host == "::" else (host,))  # noqa: S104
    return tuple(hosts)


def _origin(text: str) -> str:
    """Returns the origin as browsers write it (RFC 6454, section 6.2)."""
    if text in ("*", "null", "file://"):
        return text
    try:
        url = URL(text)
        origin = str(url.origin())
    except ValueError:
        origin = ""
    more = url.user or url.path != "/" or url.query_string or url.fragment if origin else ""
    if more or not ORIGIN.fullmatch(origin):
        raise EnvError(
            f"CORS_ORIGINS: {text!r} is not an origin, so it would match no page. An origin is a scheme,"
            " a host without wildcards, and perhaps a port, such as https://chat.example.com."
        )
    return origin


def _http_url(env: Env, key: str) -> str:
    url = env.str(key, "", validate=HTTP_URL).strip()
    try:
        URL(url)
    except ValueError:
        raise EnvError(f"{key}: its host or port is not valid.") from None
    return url


def _list(env: Env, key: str, default: str = "") -> tuple[str, ...]:
    """Returns the values of a list. A list without values is the default."""
    return _split(env.str(key, default)) or _split(default)


def _split(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split(",") if value.strip())
