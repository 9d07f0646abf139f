"""`chatserver doctor`: checks everything that the server needs to start. Every problem comes with a remedy."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from ..api.http import bind
from ..development import address, keep_secrets
from ..mongo import Mongo
from ..mongo.embedded import url_of
from ..mongo.mongod import EmbeddedFailed, find_mongod, mongod_version
from ..mongo.schema import NewerSchema, newest, version_of
from ..outbox.endpoints import Endpoint, shown
from ..outbox.sinks.registry import build
from ..outbox.sinks.sink import Unreachable
from ..realtime.bus import ask
from ..settings import BadSettings, Settings

PATIENCE_S = 4.0


@dataclass(frozen=True)
class Finding:
    subject: str
    detail: str
    problem: bool = False


async def examine() -> list[Finding]:
    """All checks, in the order in which a start needs them."""
    try:
        settings = keep_secrets(Settings.from_environment())
    except BadSettings as error:
        return [Finding("settings", str(error), problem=True)]
    findings = [Finding("settings", f"read, for {settings.env}")]
    findings += [finding async for finding in _database(settings)]
    if settings.redis_url:
        findings.append(await _redis(settings))
    findings += await asyncio.gather(*map(_sink, settings.webhooks))
    for key, port in {"PORT": settings.port, "WS_PORT": settings.ws_port}.items():
        findings.append(await _port(key, settings.host, port))
    return findings


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    if settings.mongo_url:
        found = await _replica_set(
            settings.mongo_url, "check MONGO_URL, and that MongoDB is running"
        )
        yield found
        if not found.problem:
            yield await _schema(settings)
        return
    try:
        mongod = find_mongod()
        version = await asyncio.to_thread(mongod_version, mongod)
        url = url_of(settings.data_dir)
    except EmbeddedFailed as error:
        yield Finding("embedded MongoDB", str(error), problem=True)
        return
    yield Finding("embedded MongoDB", f"{version} ({mongod})")
    if not _can_write(settings.data_dir):
        detail = f"DATA_DIR ({settings.data_dir}) is not writable: change its owner or set another."
        yield Finding("data", detail, problem=True)
    elif _listens(url):
        yield await _replica_set(url, "restart the server")
    else:
        yield Finding("data", f"{settings.data_dir.absolute()}, not in use")


def _can_write(data_dir: Path) -> bool:
    existing = next(
        path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists()
    )
    return os.access(existing, os.W_OK | os.X_OK)


def _listens(url: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(unquote(urlsplit(url).netloc)) == 0


async def _replica_set(url: str, remedy: str) -> Finding:
    try:
        client = AsyncMongoClient[dict[str, object]](
            url, serverSelectionTimeoutMS=int(PATIENCE_S * 1000)
        )
        async with client:
            hello = await client.admin.command("hello")
            version = (await client.server_info())["version"]
    except PyMongoError as error:
        return Finding("database", f"no answer ({words_of(error)}): {remedy}.", problem=True)
    if "setName" not in hello:
        detail = "not a replica set: start mongod with --replSet and run rs.initiate() once."
        return Finding("database", detail, problem=True)
    if not hello.get("isWritablePrimary"):
        detail = f"replica set {hello['setName']} has no writable primary: check rs.status()."
        return Finding("database", detail, problem=True)
    return Finding(
        "database", f"MongoDB {version}, writable primary of replica set {hello['setName']}"
    )


async def _schema(settings: Settings) -> Finding:
    mongo = Mongo(settings.mongo_url, settings.mongo_database)
    try:
        version = await version_of(mongo)
    except (NewerSchema, PyMongoError) as error:
        return Finding("schema", str(error), problem=True)
    finally:
        await mongo.close()
    if version == newest():
        return Finding("schema", f"{version}")
    return Finding("schema", f"{version}; the next start upgrades it to {newest()}")


def words_of(error: Exception) -> str:
    """The driver's message, without its timeouts and its topology description."""
    return str(error).split(" (configured", 1)[0] or "timed out"


async def _redis(settings: Settings) -> Finding:
    """Check every Redis command that nodes use to reach each other. The Redis user may lack the right to some."""
    trouble = await ask(settings.redis_url, settings.redis_prefix)
    if not trouble:
        return Finding("redis", "answers")
    detail = (
        f"no connection ({trouble}): check REDIS_URL, and that Redis is running. "
        "A server starts without it, but with chat_bus_up 0, and receives other nodes' messages late."
    )
    return Finding("redis", detail, problem=True)


async def _sink(endpoint: Endpoint) -> Finding:
    """Check that the endpoint accepts connections. No event is sent to it."""
    sink = build(endpoint)
    subject = f"{sink.kind} {endpoint.name}"
    try:
        async with asyncio.timeout(PATIENCE_S):
            return Finding(subject, await sink.probe())
    except Unreachable as error:
        return Finding(subject, str(error), problem=True)
    except TimeoutError:
        where = shown(endpoint.url)
        detail = f"{where}: no answer within {PATIENCE_S:.0f} s: check its firewall, and that it is running."
        return Finding(subject, detail, problem=True)
    finally:
        await sink.close()


async def _port(key: str, hosts: Sequence[str], port: int) -> Finding:
    subject = f"{key} {port}"
    try:
        bound = bind(hosts, port)
    except OSError as error:
        if await _is_chatserver(address(hosts, port)):
            return Finding(subject, "a chatserver is already listening")
        return Finding(
            subject, f"{error.strerror}: set {key} or HOST, or free the port.", problem=True
        )
    for each in bound:
        each.close()
    return Finding(subject, "free")


async def _is_chatserver(url: str) -> bool:
    try:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{url}/health") as answer,
        ):
            return answer.status == 200 and "status" in await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return False
