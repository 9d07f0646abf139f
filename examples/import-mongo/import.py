"""Import the chats of an old MongoDB into a chat server, over its APIs. Needs PyMongo and aiohttp.

Replace `Old`, which reads your old database. You can run the import again, also after it was stopped halfway:
it finds what it has imported before, and creates no duplicates.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from urllib.parse import quote

from aiohttp import ClientSession
from pymongo import AsyncMongoClient

API = os.environ.get("CHAT_URL", "http://127.0.0.1:3000") + "/api"
SECRET = os.environ["INTERNAL_API_SECRET"].split(",")[0]
AT_ONCE = 16  # conversations


class Old:
    """The old database. It returns ids as strings, and of each record only the fields to import."""

    def __init__(self, url: str, database: str) -> None:
        self.db = AsyncMongoClient(url, tz_aware=True)[database]

    async def users(self) -> list[dict]:
        return [
            {"externalUserId": str(user["_id"]), "name": user["name"]}
            async for user in self.db.users.find()
        ]

    async def conversations(self) -> AsyncIterator[dict]:
        async for conversation in self.db.conversations.find():
            members = [str(who) for who in conversation["members"]]
            yield {
                "id": str(conversation["_id"]),
                "name": conversation.get("name"),
                "members": members,
            }

    async def messages(self, conversation: str) -> list[dict]:
        found = self.db.messages.find({"conversation": conversation, "deleted": {"$ne": True}})
        return [
            {
                "id": str(message["_id"]),
                "sender": str(message["sender"]),
                "text": message["text"],
                "reply_to": str(message["reply_to"]) if message.get("reply_to") else None,
                "at": message["created_at"].isoformat(timespec="milliseconds"),
                "reactions": [
                    (emoji, str(who))
                    for emoji, people in message.get("reactions", {}).items()
                    for who in people
                ],
            }
            async for message in found.sort([("created_at", 1), ("_id", 1)])
        ]

    async def marks(self, conversation: str) -> list[tuple[str, str]]:
        """Returns pairs of a user and the last message that the user has read."""
        found = self.db.marks.find({"conversation": conversation})
        return [(str(mark["user"]), str(mark["message"])) async for mark in found]


class Chat:
    def __init__(self, http: ClientSession) -> None:
        self.http = http
        self.listed: dict[str, asyncio.Task] = {}

    async def ask(self, method: str, path: str, body: dict | None, user: str | None = None) -> dict:
        headers = {"X-Internal-Secret": SECRET}
        if user:
            headers["X-User-Id"] = f"UTF-8''{quote(user, safe='')}"
        async with self.http.request(method, API + path, json=body, headers=headers) as answer:
            if not answer.ok:
                raise RuntimeError(f"{method} {path} as {user}: {await answer.text()}")
            return {} if answer.status == 204 else await answer.json()

    async def brought(self, user: str) -> dict[str, str]:
        """Returns the imported conversations of this user: new ids by old ids."""
        if user not in self.listed:
            self.listed[user] = asyncio.create_task(self._list(user))
        return await self.listed[user]

    async def _list(self, user: str) -> dict[str, str]:
        found, cursor = {}, ""
        while cursor is not None:
            page = await self.ask("GET", f"/conversations?limit=200{cursor}", None, user)
            found |= {item["metadata"].get("oldId"): item["id"] for item in page["items"]}
            cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
        return found

    async def conversation(self, old: dict, people: list[str]) -> tuple[str, str]:
        """Returns its new id and its owner. All `people` are members then."""
        owner, *others = people
        # Two people have a single direct conversation, so creating it again returns it.
        if old["name"] is None and len(others) == 1:
            direct = await self.ask("POST", "/conversations/direct", {"userId": others[0]}, owner)
            return direct["id"], owner
        if (known := (await self.brought(owner)).get(old["id"])) is None:
            new = {"type": "group", "participantIds": others, "metadata": {"oldId": old["id"]}}
            made = await self.ask("POST", "/conversations", new | {"name": old["name"]}, owner)
            return made["id"], owner
        if others:
            await self.ask(
                "POST", f"/conversations/{known}/participants", {"userIds": others}, owner
            )
        return known, owner


async def bring(chat: Chat, old: Old, conversation: dict) -> int:
    messages = await old.messages(conversation["id"])
    # Former members must take part until their messages are sent. The first member is the owner.
    said = {message["sender"] for message in messages}
    reacted = {who for message in messages for _, who in message["reactions"]}
    gone = (said | reacted) - {*conversation["members"]}
    here, owner = await chat.conversation(conversation, [*conversation["members"], *sorted(gone)])
    path, new = f"/conversations/{here}", {}
    for message in messages:  # one after another, to keep their order
        body = {
            "content": message["text"],
            "clientMessageId": message["id"],  # stored once, however often this is run
            "replyTo": new.get(message["reply_to"]),
            "metadata": {"sentAt": message["at"]},
        }
        sent = await chat.ask("POST", f"{path}/messages", body, message["sender"])
        new[message["id"]] = sent["id"]
        for emoji, who in message["reactions"]:
            await chat.ask("POST", f"/messages/{sent['id']}/reactions", {"emoji": emoji}, who)
    for user, message in await old.marks(conversation["id"]):
        if message in new and user in conversation["members"]:
            await chat.ask("PUT", f"{path}/read", {"upToMessageId": new[message]}, user)
    for user in gone:
        await chat.ask("DELETE", f"{path}/participants/{user}", None, owner)
    return len(messages)


async def main() -> None:
    old = Old(os.environ["OLD_MONGO_URL"], os.environ.get("OLD_DATABASE", "chat"))
    async with ClientSession() as http:
        chat, users = Chat(http), await old.users()
        for at in range(0, len(users), 1000):
            done = await chat.ask("POST", "/users/sync/batch", {"users": users[at : at + 1000]})
            if done["failed"]:
                raise RuntimeError(f"users: {done['failed']}")
        turns, counts = asyncio.Semaphore(AT_ONCE), defaultdict(int)

        async def in_turn(conversation: dict) -> None:
            async with turns:
                messages = await bring(chat, old, conversation)
                # Not in one line with the await, during which other tasks count.
                counts["messages"] += messages
                counts["conversations"] += 1

        async with asyncio.TaskGroup() as group:
            async for conversation in old.conversations():
                group.create_task(in_turn(conversation))
        print(
            f"{len(users)} users, {counts['conversations']} conversations, {counts['messages']} messages"
        )


asyncio.run(main())
