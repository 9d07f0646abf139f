"""Another process that writes to the logs of conversations, and announces nothing."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from chatserver.chat.message import entry_id, offset_of
from chatserver.clock import now


async def take_next_offset(
    log: AsyncCollection[Any], talk: Any, session: AsyncClientSession | None = None
) -> None:
    """Writes an entry without content at the end of the conversation's log."""
    newest = {"_id": {"$regex": f"^{talk['id']}-"}}
    last = await log.find_one(newest, sort=[("_id", -1)], session=session)
    assert last is not None
    entry = {"_id": entry_id(talk["id"], offset_of(last["_id"]) + 1), "kind": "fence", "at": now()}
    position = {"lastSeq": last["lastSeq"], "lastRev": last["lastRev"]}
    await log.insert_one({**entry, "conversationId": talk["id"], **position}, session=session)
