"""The users who have reacted to a message, in lists of any length.

A message has the users of an emoji, the earliest first, while they are at most SHOWN. When another one reacts, a list
begins: every user gets a document, numbered in the order of reacting. From then on the documents are the truth. The
message keeps the first SHOWN users; its field `listed` has the number of all, and the next number, by `plain` emoji.
So neither the message nor the work of a reaction grows with the number of users.

A node of the previous version does not know lists. It changes the users in the message, and its change removes the mark
`isListed` beside them. Then the next change here brings the documents up to date.
"""

from __future__ import annotations

from ..mongo import Document, Mongo, Session
from .job import DONE, Job, Progress
from .jobs import Jobs
from .message import SHOWN, Message, plain

REACTION_LISTS = "message.reactions"
CLEARED = 1000
"""Documents that a step removes."""


def _id(message_id: str, emoji: str, user_id: str) -> str:
    # No emoji has a slash, so two reactions never have the same id.
    return f"{message_id}/{plain(emoji)}/{user_id}"


class ReactionLists:
    def __init__(self, mongo: Mongo, jobs: Jobs) -> None:
        self._mongo = mongo
        self._jobs = jobs

    async def change(
        self, message: Message, emoji: str, user_id: str, *, adds: bool, session: Session
    ) -> Message | None:
        """Add or remove a reaction. Returns the message after it, or None if nothing changes.

        The lists are changed by the transaction. The caller stores the message.
        """
        reaction = message.reaction(emoji)
        users = reaction["users"]
        if plain(emoji) in message.listed:
            return await self._change_list(message, reaction, user_id, adds, session)
        if adds == (user_id in users):
            return None
        after = [*users, user_id] if adds else [each for each in users if each != user_id]
        if len(after) <= SHOWN:
            return _with(message, {**reaction, "users": after}, None)
        await self._mongo.reactions.insert_many(
            [_listed(message.id, emoji, each, number) for number, each in enumerate(after)],
            session=session,
        )
        listed = {"count": len(after), "next": len(after)}
        return _with(message, {**reaction, "users": after[:SHOWN], "isListed": True}, listed)

    async def _change_list(
        self, message: Message, reaction: Document, user_id: str, adds: bool, session: Session
    ) -> Message | None:
        emoji, users = reaction["emoji"], reaction["users"]
        listed = message.listed[plain(emoji)]
        came: list[str] = []
        gone: list[str] = []
        if is_stale := "isListed" not in reaction:
            first = await self._first(message.id, emoji, session)
            came = [each for each in users if each not in first]
            gone = [each for each in first if each not in users]
            if adds == await self._has(message, reaction, user_id, gone, session):
                return None
        if adds:
            came.append(user_id)
        else:
            came = [each for each in came if each != user_id]
            gone.append(user_id)
        count, number = listed["count"], listed["next"]
        if gone:
            ids = [_id(message.id, emoji, each) for each in gone]
            removed = await self._mongo.reactions.delete_many(
                {"_id": {"$in": ids}}, session=session
            )
            count -= removed.deleted_count
        for each in came:
            doc = _listed(message.id, emoji, each, number)
            stored = await self._mongo.reactions.update_one(
                {"_id": doc["_id"]}, {"$setOnInsert": doc}, upsert=True, session=session
            )
            if stored.upserted_id is not None:
                count, number = count + 1, number + 1
        if count == listed["count"] and not is_stale:
            return None
        if is_stale or user_id in users or count <= SHOWN:
            users = await self._first(message.id, emoji, session)
        if not count:
            return _with(message, {**reaction, "users": []}, None)
        after = {**reaction, "users": users, "isListed": True}
        return _with(message, after, {"count": count, "next": number})

    async def _first(self, message_id: str, emoji: str, session: Session) -> list[str]:
        found = self._mongo.reactions.find(
            {"messageId": message_id, "emoji": plain(emoji)}, {"userId": 1}, session=session
        )
        return [doc["userId"] async for doc in found.sort("number").limit(SHOWN)]

    async def _has(
        self, message: Message, reaction: Document, user_id: str, gone: list[str], session: Session
    ) -> bool:
        if user_id in gone or user_id in reaction["users"]:
            return user_id not in gone
        where = {"_id": _id(message.id, reaction["emoji"], user_id)}
        return await self._mongo.reactions.find_one(where, session=session) is not None

    async def after(
        self, message: Message, reaction: Document, last: tuple[str, int | None] | None, limit: int
    ) -> list[tuple[str, int | None]]:
        """Returns users, each with the number in the list, or with None if there is no list.

        `last`: the last one of the page before. A user who has not reacted any more says nothing about the place
        in the order, unless there is a number. Then the users come from the first one on: rather twice than never.
        """
        users = reaction["users"]
        user_id, number = last or (None, None)
        if plain(reaction["emoji"]) not in message.listed:
            begin = users.index(user_id) + 1 if user_id in users else 0
            return [(each, None) for each in users[begin : begin + limit]]
        if number is None and user_id is not None:
            where = {"_id": _id(message.id, reaction["emoji"], user_id)}
            number = (await self._mongo.reactions.find_one(where) or {}).get("number")
        found = self._mongo.reactions.find(
            {
                "messageId": message.id,
                "emoji": plain(reaction["emoji"]),
                "number": {"$gt": -1 if number is None else number},
            }
        )
        return [(doc["userId"], doc["number"]) async for doc in found.sort("number").limit(limit)]

    async def end(self, message: Message, session: Session) -> None:
        """The transaction deletes the message. Its lists are removed in the background."""
        if message.listed:
            await self._jobs.add(REACTION_LISTS, message.id, session, in_s=0.0)

    async def clear(self, job: Job) -> Progress:
        """The next step of removing the lists of a message."""
        found = self._mongo.reactions.find({"messageId": job.subject}, {"_id": 1})
        ids = [doc["_id"] async for doc in found.limit(CLEARED)]
        if not ids:
            return DONE
        await self._mongo.reactions.delete_many({"_id": {"$in": ids}})
        return Progress(len(ids))


def _listed(message_id: str, emoji: str, user_id: str, number: int) -> Document:
    return {
        "_id": _id(message_id, emoji, user_id),
        "messageId": message_id,
        "emoji": plain(emoji),
        "userId": user_id,
        "number": number,
    }


def _with(message: Message, reaction: Document, listed: Document | None) -> Message:
    """Returns the message with this state of one reaction."""
    key = plain(reaction["emoji"])
    reactions = {**message.reactions, key: reaction}
    after = [each for each in reactions.values() if each["users"]]
    lists = {each: state for each, state in message.listed.items() if each != key}
    if listed is not None:
        lists[key] = listed
    return message.with_(reactions=after or None, listed=lists or None)
