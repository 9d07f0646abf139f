"""Every endpoint and every event as a row: a valid request, and the values that each field must refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from .people import People, Person

OPERATOR = {"$gt": ""}
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]

NO_TEXT = [1, 1.5, True, [], ["x"], {}, OPERATOR, DEEP, "\ud800", "a\udfffb"]
NO_ID = [*NO_TEXT, "", "x" * 129, "a\0b", "a\nb", "\u202eb", "\u2028"]
ID = [None, *NO_ID]
IDS = [
    None,
    "x",
    1,
    True,
    {},
    OPERATOR,
    DEEP,
    [1],
    [None],
    [[]],
    [OPERATOR],
    [""],
    ["a\0"],
    ["\ud8ff"],
]
UNSEEN = [" \n\t", "\u2800", "\u200b\u3164\ufe0f \u00ad"]
CONTENT = [None, *NO_TEXT, "", *UNSEEN, "x" * 10_001]
ONCE = [*NO_TEXT, "", "x" * 65]
NAME = [*NO_TEXT, "", *UNSEEN, "x" * 201]
URL = [*NO_TEXT, "", "x", "javascript:alert(1)", "ftp://a.example/x", "https://", "https://a b/"]
METADATA = [None, 1, "x", True, [], [OPERATOR], {"a": {}}, {"a": OPERATOR}, {"a": []}, {"a": DEEP}]
METADATA += [
    {"a": "x" * 2048},
    {"a": float("inf")},
    {"a": float("nan")},
    {"a": "\ud800"},
    {"\ud800": 1},
]
CHOICE = [None, *NO_TEXT, "", "Owner", "everyone ", "none"]
EMOJI = [None, *NO_TEXT, "", "a", "ab", "👍👍", ":x", "::", ":a b:", "👍\0", ":" + "x" * 31 + ":"]
FILES = [None, "x", 1, {}, OPERATOR, [1], [None], [OPERATOR], [{}], [{"type": "file"}], [[[]]]]
FILES += [[{"type": "file", "url": url}] for url in ("http://a.example/x", "x", OPERATOR, None)]
FILES += [[{"type": "file", "url": "https://a.example/x"}] * 11]
FILES += [
    [{"type": "file", "url": "https://a.example/x", key: value}]
    for key, value in (
        ("size", -1),
        ("size", "1"),
        ("width", 1.5),
        ("name", OPERATOR),
        ("name", "\u2800"),
        ("$gt", ""),
    )
]
FILES += [[{"type": "program", "url": "https://a.example/x"}]]
NUMBER = [None, "1", 1.5, True, -1, 2**53, float("inf"), float("nan"), [], {}, OPERATOR]
LIMIT = [*NUMBER, 0, 201]
LIMIT_QUERY = ["", "0", "201", "-1", "x", "1.5", "1e2", "null", "\0", "9" * 4000, "9" * 5000]
PLACE_QUERY = ["", "x" * 129, "\0", "no-such-message", "0.5", '{"$gt":""}']
CURSOR_QUERY = ["", "x", "1.", ".x", "1" * 15 + ".x", "-1.x", "\0", "x" * 129, '{"$gt":""}']


@dataclass(frozen=True)
class Scene:
    """Alice, who owns the talk and wrote the message in it, and Bob, who is in it too."""

    alice: Person
    bob: Person
    talk: Mapping[str, Any]
    message: Mapping[str, Any]

    @property
    def ids(self) -> dict[str, str]:
        return {
            "conversationId": self.talk["id"],
            "messageId": self.message["id"],
            "userId": self.bob.id,
            "emoji": "👍",
        }

    async def state(self) -> Any:
        """Returns everything visible of the talk, and the lists of conversations of its people."""
        see, talk, message = self.bob.ask, f"/conversations/{self.talk['id']}", self.message["id"]
        return [
            await see("GET", talk),
            await see("GET", f"{talk}/messages"),
            await see("GET", f"{talk}/unread-count"),
            await see("GET", f"/messages/{message}/read"),
            await see("GET", "/conversations"),
            await self.alice.ask("GET", "/conversations"),
        ]


async def set_scene(people: People) -> Scene:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob, name="The scene")
    path = f"/conversations/{talk['id']}"
    message = await alice.ask("POST", f"{path}/messages", {"content": "What is refused?"})
    return Scene(alice, bob, await alice.ask("GET", path), message)


@dataclass(frozen=True)
class Endpoint:
    """`fields`: invalid values of the body's fields. `query`: of the query's. `needs`: the required fields."""

    method: str
    path: str
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    needs: Callable[[Scene], dict[str, Any]] = lambda _: {}
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def at(self, **ids: str) -> str:
        return self.path.format(**{key: quote(value, safe="") for key, value in ids.items()})


_TALK, _MESSAGE = "/conversations/{conversationId}", "/messages/{messageId}"
_LOOKS = {"name": NAME, "avatarUrl": URL, "metadata": METADATA}

ENDPOINTS = [
    Endpoint(
        "POST",
        "/conversations",
        {"type": CHOICE, "participantIds": [*IDS, ["x"] * 1001], **_LOOKS},
        lambda scene: {"type": "group", "participantIds": [scene.bob.id]},
    ),
    Endpoint(
        "POST", "/conversations/direct", {"userId": ID}, lambda scene: {"userId": scene.bob.id}
    ),
    Endpoint(
        "POST",
        "/conversations/private",
        {"userIds": [*IDS, []]},
        lambda scene: {"userIds": [scene.bob.id]},
    ),
    Endpoint("GET", "/conversations", query={"limit": LIMIT_QUERY, "cursor": CURSOR_QUERY}),
    Endpoint("GET", _TALK),
    Endpoint("PATCH", _TALK, _LOOKS),
    Endpoint("DELETE", _TALK),
    Endpoint(
        "GET",
        _TALK + "/participants",
        query={
            "role": ["", "OWNER", "king"],
            "limit": LIMIT_QUERY,
            "cursor": [*CURSOR_QUERY, "member", "member.", "king.1.x", "member.x.x", "x" * 257],
        },
    ),
    Endpoint(
        "POST",
        _TALK + "/participants",
        {"userIds": [*IDS, [], ["x"] * 1001], "role": [*CHOICE, "owner"]},
        lambda _: {"userIds": ["carol"]},
    ),
    Endpoint(
        "PATCH", _TALK + "/participants/{userId}", {"role": CHOICE}, lambda _: {"role": "admin"}
    ),
    Endpoint("DELETE", _TALK + "/participants/{userId}"),
    Endpoint(
        "POST",
        _TALK + "/messages",
        {
            "content": CONTENT,
            "attachments": FILES,
            "replyTo": [*NO_ID, "no-such-message"],
            "clientMessageId": ONCE,
            "mentions": [*IDS, ["x"] * 51],
            "metadata": METADATA,
        },
        lambda _: {"content": "Right"},
    ),
    Endpoint(
        "GET",
        _TALK + "/messages",
        query={"limit": LIMIT_QUERY, "before": PLACE_QUERY, "after": PLACE_QUERY},
    ),
    Endpoint("GET", _MESSAGE),
    Endpoint("PATCH", _MESSAGE, {"content": CONTENT}, lambda _: {"content": "Right"}),
    Endpoint("DELETE", _MESSAGE, query={"scope": ["", "all", "\0", '{"$gt":""}']}),
    Endpoint("POST", _MESSAGE + "/reactions", {"emoji": EMOJI}, lambda _: {"emoji": "🎉"}),
    Endpoint("DELETE", _MESSAGE + "/reactions/{emoji}"),
    Endpoint(
        "GET",
        _MESSAGE + "/reactions",
        query={
            "emoji": ["", "no emoji", "👍👍"],
            "limit": LIMIT_QUERY,
            "cursor": [*CURSOR_QUERY, "0123456789ab.1.", "0123456789ab.-1.x", "0123456789AB.1.x"],
        },
    ),
    Endpoint("PUT", _MESSAGE + "/read"),
    Endpoint(
        "GET",
        _MESSAGE + "/read",
        query={"limit": LIMIT_QUERY, "cursor": [*CURSOR_QUERY, "1.", "-1.x"]},
    ),
    Endpoint("PUT", _TALK + "/read", {"upToMessageId": [*NO_ID, "no-such-message"]}),
    Endpoint("GET", _TALK + "/unread-count"),
    Endpoint("GET", "/users/{userId}/presence"),
    Endpoint(
        "GET",
        _TALK + "/presence",
        query={
            "limit": LIMIT_QUERY,
            "cursor": [*CURSOR_QUERY, "online", "online..x", "others.1.x", "x.1.x", "x" * 257],
        },
    ),
    Endpoint(
        "POST",
        "/presence/batch",
        {"userIds": [*IDS, ["x"] * 201]},
        lambda scene: {"userIds": [scene.bob.id]},
    ),
]

INTERNAL = [
    Endpoint(
        "POST",
        "/users/sync",
        {"externalUserId": ID, **_LOOKS, "status": [*CHOICE, "deleted"]},
        lambda scene: {"externalUserId": scene.bob.id},
    ),
    Endpoint(
        "POST",
        "/users/sync/batch",
        {"users": [None, "x", 1, {}, OPERATOR, [], [{}] * 1001]},
        lambda _: {"users": [{"externalUserId": ""}]},
    ),
    Endpoint("GET", "/users/{externalUserId}"),
    Endpoint("DELETE", "/users/{externalUserId}"),
    Endpoint(
        "GET", "/jobs", {"limit": LIMIT_QUERY, "cursor": [*NO_TEXT, "", "x" * 257, "a\0b", "a\nb"]}
    ),
    Endpoint("GET", "/webhooks"),
    Endpoint(
        "GET",
        "/webhooks/dead",
        {"endpoint": NO_ID, "type": CHOICE, "conversationId": NO_ID, "limit": LIMIT_QUERY},
    ),
    Endpoint(
        "POST",
        "/webhooks/replay",
        {
            "ids": [*IDS, []],
            "since": [*CHOICE, "2026-13-01T00:00:00Z", "2026-11-21T09:30:00"],
            "type": CHOICE,
            "conversationId": ID,
            "dead": [None, 1, "true", [], OPERATOR],
            "endpoint": [*ID, "UPPER"],
        },
        lambda _: {"dead": True},
    ),
    Endpoint("DELETE", "/webhooks/{endpoint}"),
]


@dataclass(frozen=True)
class Event:
    name: str
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    needs: Callable[[Scene], dict[str, Any]] = lambda _: {}


def _of(*keys: str, **more: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {**{key: scene.ids[key] for key in keys}, **more}


_C, _M = {"conversationId": ID}, {"messageId": ID}
_of_talk, _of_message = _of("conversationId"), _of("messageId")

EVENTS = [
    Event(
        "message:send",
        {
            **_C,
            **next(
                endpoint.fields for endpoint in ENDPOINTS if endpoint.path.endswith("}/messages")
            ),
        },
        _of("conversationId", content="Right"),
    ),
    Event("message:edit", {**_M, "content": CONTENT}, _of("messageId", content="Right")),
    Event("message:delete", {**_M, "scope": CHOICE}, _of_message),
    Event("reaction:add", {**_M, "emoji": EMOJI}, _of("messageId", "emoji")),
    Event("reaction:remove", {**_M, "emoji": EMOJI}, _of("messageId", "emoji")),
    Event("message:read", _M, _of_message),
    Event("conversation:read", {**_C, "upToMessageId": [*NO_ID, "no-such-message"]}, _of_talk),
    Event("typing:start", _C, _of_talk),
    Event("typing:stop", _C, _of_talk),
    Event("recording:start", _C, _of_talk),
    Event("recording:stop", _C, _of_talk),
    Event("activity:ping"),
    Event(
        "presence:subscribe",
        {"userIds": [*IDS, ["x"] * 201]},
        lambda scene: {"userIds": [scene.bob.id]},
    ),
    Event(
        "presence:unsubscribe",
        {"userIds": [*IDS, ["x"] * 1001]},
        lambda scene: {"userIds": [scene.bob.id]},
    ),
    Event(
        "messages:sync",
        {**_C, "lastMessageId": [*NO_ID, "no-such-message"], "limit": LIMIT},
        _of("conversationId", lastMessageId=None),
    ),
    Event("messages:sync", {**_C, "afterSeq": NUMBER}, _of("conversationId", afterSeq=0)),
    Event("messages:sync", {**_C, "afterRev": NUMBER}, _of("conversationId", afterRev=0)),
    Event("room:join", _C, _of_talk),
    Event("room:leave", _C, _of_talk),
    Event("ping"),
    Event(
        "auth:refresh",
        {"token": [None, *NO_TEXT, "", "x" * 8193]},
        lambda scene: {"token": scene.bob.token},
    ),
]


def names(error: Mapping[str, Any], key: str) -> bool:
    """Returns True if the error names the field or a part of it."""
    return any(name == key or name.startswith(f"{key}.") for name in error.get("details", {}))
