"""Builds an example of every shape from examples of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TALK = "6920313f0c6e4a7d9b3f5a10"
_MESSAGE = f"{_TALK}-00000042"
_ONCE = "3f0c9f3e-5d0b-4c1e-8f57-9d1a2b7c6e55"
_TIME = "2026-11-21T09:30:00.000Z"

BY_NAME: Mapping[str, Any] = {
    "SyncMessages": {"conversationId": _TALK, "afterRev": 57},
    "Replay": {"since": _TIME, "type": "message.created"},
    "SendMessage": {"content": "Hello, Bob!", "clientMessageId": _ONCE},
    "SendMessage to": {"conversationId": _TALK, "content": "Hello, Bob!", "clientMessageId": _ONCE},
    "conversationId": _TALK,
    "messageId": _MESSAGE,
    "upToMessageId": _MESSAGE,
    "lastMessageId": _MESSAGE,
    "Message.id": _MESSAGE,
    "Conversation.id": _TALK,
    "OwnConversation.id": _TALK,
    "replyTo": None,
    "before": "42",
    "after": "42",
    "key": _TALK,
    "ids": [f"evt_{_MESSAGE}"],
    "eventId": f"evt_{_MESSAGE}",
    "DeadLetter.id": f"evt_{_MESSAGE}",
    "userId": "alice",
    "senderId": "alice",
    "createdBy": "alice",
    "deletedBy": "alice",
    "removedBy": "alice",
    "externalUserId": "alice",
    "userIds": ["bob"],
    "participantIds": ["bob"],
    "mentions": [],
    "name": "Lunch",
    "User.name": "Alice",
    "SyncUser.name": "Alice",
    "EndpointStatus.name": "default",
    "Attachment.name": "menu.pdf",
    "Attachment.type": "file",
    "avatarUrl": "https://cdn.example.com/alice.png",
    "Attachment.url": "https://cdn.example.com/menu.pdf",
    "thumbnailUrl": "https://cdn.example.com/menu.png",
    "EndpointStatus.url": "https://app.example.com/webhooks",
    "mimeType": "application/pdf",
    "size": 48_213,
    "metadata": {},
    "content": "Hello, Bob!",
    "attachments": [],
    "clientMessageId": _ONCE,
    "emoji": "👍",
    "type": "group",
    "role": "member",
    "seq": 42,
    "rev": 57,
    "lastSeq": 42,
    "lastRev": 57,
    "afterRev": 57,
    "lastReadSeq": 41,
    "nextCursor": None,
    "cursor": f"1763717400000.{_TALK}",
    "deletedAt": _TIME,
    "Message.deletedAt": None,
    "socketId": "Zk3n0bX1Qd2u7wAAAB",
    "rooms": [_TALK],
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.…",
    "endpoint": "default",
    "error": "answered 503",
    "details": {},
    "retryAfter": 0.35,
    "event": "message:send",
    "message": "The request is not valid.",
    "reactions": [{"emoji": "👍", "count": 2, "userIds": ["alice", "bob"]}],
    "id": "5b7e1c20",
    "isEdited": False,
    "MessageUpdated.isEdited": True,
    "isDeleted": False,
    "lag": 0.0,
    "limit": 50,
    "users": [{"externalUserId": "alice", "name": "Alice"}],
}
"""Examples by key, by shape and key, or by shape."""


def example_of(
    schema: Mapping[str, Any],
    components: Mapping[str, Mapping[str, Any]],
    name: str = "",
    owner: str = "",
) -> Any:
    """Returns a value that conforms to `schema`, the schema of the key `name` in the shape `owner`."""
    if ref := schema.get("$ref"):
        owner = ref.rpartition("/")[2]
        return example_of(components[owner], components, "", owner)
    if not name and owner in BY_NAME:
        return BY_NAME[owner]
    for key in ("const", "default", "example"):
        if key in schema and not (name and key == "default"):
            return schema[key]
    for known in (f"{owner}.{name}", name):
        if known in BY_NAME and _fits(BY_NAME[known], schema):
            return BY_NAME[known]
    if choices := schema.get("anyOf"):
        return example_of(choices[0], components, name, owner)
    if choices := schema.get("enum"):
        return choices[0]
    types = schema.get("type", "object")
    match types if isinstance(types, str) else types[0]:
        case "object":
            properties = schema.get("properties", {})
            return {
                key: example_of(inner, components, key, owner)
                for key, inner in properties.items()
                if key in schema.get("required", ()) or len(properties) <= 8
            }
        case "array":
            return [example_of(schema["items"], components, name, owner)]
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "number":
            return 0.5
        case "boolean":
            return True
    return _TIME if schema.get("format") == "date-time" else "…"


_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Returns True if the type and the choices of `schema` allow `value`."""
    types = schema.get("type")
    names = [types] if isinstance(types, str) else types or []
    if names and not any(isinstance(value, _KINDS[type_name]) for type_name in names):
        return False
    return value in schema.get("enum", [value]) and not (value is None and not names)
