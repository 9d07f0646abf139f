"""A client that only listens. It ends up with what the server would answer to its requests, or it finds out why not."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..conversation_copy import CHANGES, Copy
from ..people import Person, Refused
from ..raw import Wire, history


class View:
    """The state of a client after the events of one socket. It raises AssertionError for an event that comes
    twice or out of order, and KeyError for one about a conversation of other people.

    `guest`: the user whose presence the client follows. Others may have come before the client did.
    """

    def __init__(self, guest: str) -> None:
        self.guest = guest
        self.online = False
        self.conversations: dict[str, Any] = {}
        self.members: dict[tuple[str, str], bool] = {}
        """The last news of a membership: True if it began."""
        self.copies: dict[str, Copy] = {}
        self.first: dict[str, int] = {}
        """The `seq` of the last message before the client came to a conversation. It has later ones only."""
        self.read: dict[str, set[str]] = {}
        """The readers of each message."""
        self._hear = {
            "conversation:new": self._enter,
            "conversation:joined": self._enter,
            "conversation:updated": self._update,
            "conversation:removed": self._leave,
            "participant:added": partial(self._member, here=True),
            "participant:removed": partial(self._member, here=False),
            "message:read": self._mark,
            "conversation:read": self._mark_all,
            "user:online": partial(self._presence, online=True),
            "user:offline": partial(self._presence, online=False),
        }

    @classmethod
    def of(cls, wire: Wire, guest: str) -> View:
        view = cls(guest)
        for name, told in wire.heard:
            if name in CHANGES:
                view._change(name, told)
            elif name in view._hear:
                view._hear[name](told)
        return view

    def agrees(self, truth: Any) -> bool:
        """Returns True if the client knows what `read_by` has read."""
        later = {
            conversation_id: {
                **known,
                "messages": [
                    message
                    for message in known["messages"]
                    if message["seq"] > self.first.get(conversation_id, 0)
                ],
            }
            for conversation_id, known in truth.items()
        }
        return bool(later == self.seen)

    @property
    def seen(self) -> Any:
        """The read marks that this client knows, in the form of `read_by`."""
        return {
            conversation_id: {
                **_known_of(conversation, self.guest, self.online),
                "messages": [
                    {**message, "readers": sorted(self.read.get(message["id"], ()))}
                    for message in self.copies[conversation_id].in_order
                ],
            }
            for conversation_id, conversation in self.conversations.items()
        }

    def _enter(self, conversation: Any) -> None:
        assert conversation["id"] not in self.conversations, ("twice", conversation)
        self.conversations[conversation["id"]] = conversation
        self.copies[conversation["id"]] = Copy()
        self.first[conversation["id"]] = conversation["lastSeq"]

    def _update(self, conversation: Any) -> None:
        former = self.conversations[conversation["id"]]
        assert former != conversation, ("twice", conversation)
        self.conversations[conversation["id"]] = conversation

    def _leave(self, told: Any) -> None:
        assert self.conversations.pop(told["conversationId"], None), ("twice, or of others", told)

    def _member(self, told: Any, *, here: bool) -> None:
        conversation, user_id = self.conversations[told["conversationId"]], told["userId"]
        news = (told["conversationId"], user_id)
        assert self.members.get(news) is not here, ("twice", told)
        self.members[news] = here
        others = [member for member in conversation["participants"] if member["userId"] != user_id]
        joined = [{"userId": user_id, "role": "member"}] if here else []
        self.conversations[told["conversationId"]] = {
            **conversation,
            "participants": [*others, *joined],
        }

    def _change(self, name: str, told: Any) -> None:
        copy = self.copies[told["conversationId"]]
        assert told["rev"] > copy.rev, ("twice, or out of order", name, told, copy.rev)
        copy.hear([(name, told)])

    def _mark(self, told: Any) -> None:
        readers = self.read.setdefault(told["messageId"], set())
        assert told["userId"] not in readers, ("twice", told)
        readers.add(told["userId"])

    def _mark_all(self, told: Any) -> None:
        copy = self.copies[told["conversationId"]]
        end = copy.messages[told["upToMessageId"]]["seq"]
        news = [
            readers
            for message in copy.in_order
            if message["seq"] <= end and message["senderId"] != told["userId"]
            for readers in [self.read.setdefault(message["id"], set())]
            if told["userId"] not in readers
        ]
        assert len(news) == told["count"] > 0, ("twice", told)
        for readers in news:
            readers.add(told["userId"])

    def _presence(self, told: Any, *, online: bool) -> None:
        if told["userId"] == self.guest:
            assert self.online is not online, ("twice", told)
            self.online = online


async def read_by(person: Person, guest: str) -> Any:
    """Returns the conversations of a person, with everything in them, as the server answers to requests."""
    found = {}
    for conversation in (await person.ask("GET", "/conversations?limit=200"))["items"]:
        try:
            messages = await history(person, conversation)
            for message in messages:
                readers = await person.ask("GET", f"/messages/{message['id']}/read")
                message["readers"] = sorted(reader["userId"] for reader in readers["items"])
        except Refused as refusal:
            # It ended, or the person left, since the list was read.
            if refusal.code != "NOT_FOUND":
                raise
            continue
        online = (await person.ask("GET", f"/users/{guest}/presence"))["status"] == "online"
        found[conversation["id"]] = {
            **_known_of(conversation, guest, online),
            "messages": messages,
        }
    return found


def _known_of(conversation: Any, guest: str, online: bool) -> Any:
    roles = {member["userId"]: member["role"] for member in conversation["participants"]}
    return {
        "name": conversation["name"],
        "roles": roles,
        "guest is online": online and guest in roles,
    }
