"""A new database, with the default durability of a replica set."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from chatserver.mongo.embedded import find_mongod

from .process import LOAD_CPU, Process, until


def start_mongod(
    stack: ExitStack, folder: Path, port: int
) -> tuple[Process, MongoClient[dict[str, Any]]]:
    """Starts an empty replica set `bench` of one member. Returns its process and a client."""
    data = folder / "db"
    data.mkdir()
    command = [
        *(str(find_mongod()), "--dbpath", str(data), "--replSet", "bench"),
        *("--bind_ip", "127.0.0.1", "--port", str(port)),
        *("--wiredTigerCacheSizeGB", "1"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]
    mongod = Process(command, cpu=LOAD_CPU, log=folder / "mongod.log")
    stack.callback(mongod.stop)
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=1000
    )
    stack.callback(client.close)

    def is_primary() -> bool:
        with suppress(PyMongoError):  # it may still be starting
            hello = client.admin.command("hello")
            if "setName" not in hello:
                members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
                client.admin.command("replSetInitiate", {"_id": "bench", "members": members})
            return bool(hello["isWritablePrimary"])
        return False

    until(is_primary, mongod)
    return mongod, client
