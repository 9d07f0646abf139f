"""No query of the product costs more, however much there is: the database's profiler tells what each one examines, and on
which shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest_asyncio

from tests.conftest import Starter
from tests.support.people import People, Person
from tests.support.profiled import Operation, profiled
from tests.support.raw import Wire
from tests.support.rows import ENDPOINTS, EVENTS, INTERNAL, Endpoint, Event, set_scene
from tests.support.servers import ChatServer
from tests.support.sharding import asks_all_shards

MANY = 1_200
"""Members, conversations and messages: more than any query may examine."""
MOST = 800
"""Keys and documents that an operation may examine. The longest page has 200 items."""
SMALL = {"schema", "nodes", "jobs", "relays", "system.profile", "$cmd"}
"""Collections with a few documents, or none."""

GROWS = {
    "list": "sorts a page of small conversations and one of large ones in memory",
    "presences": "reads all participants, at most every ten seconds",
    "connect": "reads the ids of 5,000 conversations of the user",
}
"""Requests that still examine more than MOST, and the reason."""

ALL_SHARDS = {
    "log by due": "an operator asks for the backlog of an endpoint, or drops it",
    "outbox by due": "an operator asks for the backlog of an endpoint, or drops it",
}
"""Queries of requests that ask all shards of a collection, and the reason."""
BACKGROUND = {
    "log by _id, due": "the relay looks for events",
    "outbox by _id, due": "the relay looks for events",
    "log by at": "a start repairs the order of lists",
    "log by at, kind": "a start repairs the order of lists",
    "memberships by activityAt, conversationId": "the order of lists is written behind the log",
    "memberships by conversationId": "a conversation becomes large or small",
    "users by namedAt": "the job that forgets unseen users",
    "users by on": "a node takes the users of a dead one offline",
}
"""The same, of work that may run beside a request."""

Request = Callable[[], Awaitable[Any]]


class Scene:
    """Alice has many conversations, and a group with many members and messages, many of which she has hidden."""

    def __init__(self, server: ChatServer, people: People) -> None:
        self.server = server
        self.people = people
        self.alice, self.bob, self.carol = people("alice", "bob", "carol")
        self.spare = people(*(f"spare{n}" for n in range(9)))

    async def build(self) -> None:
        alice, bob, carol = self.alice, self.bob, self.carol
        self.wire = await Wire.connect(alice)
        self.other = await Wire.connect(bob)
        crowd = [f"crowd-{bob.id}-{n:04}" for n in range(MANY)]
        self.talk = await alice.group(bob, carol)
        self.path = f"/conversations/{self.talk['id']}"
        for n in range(0, MANY, 1000):
            await alice.ask("POST", f"{self.path}/participants", {"userIds": crowd[n : n + 1000]})
        for user_ids in (crowd[:1000], crowd[1000:]):
            body = {"type": "group", "participantIds": [alice.id]}
            await asyncio.gather(
                *[
                    Person(self.server, user_id, alice.session).ask("POST", "/conversations", body)
                    for user_id in user_ids
                ]
            )
        answers = [
            await (self.other if n % 4 == 1 else self.wire).say(self.talk, f"message {n}")
            for n in range(MANY)
        ]
        self.said = [(await answer or {})["data"] for answer in answers]
        for n in range(0, MANY, 100):
            hiding = [
                self.wire.do("message:delete", {"messageId": message["id"], "scope": "self"})
                for message in self.said[n + 1 : n + 100 : 2]
            ]
            await asyncio.gather(*hiding)
        await bob.ask("PUT", f"{self.path}/read")
        await asyncio.gather(
            *[
                Person(self.server, user_id, alice.session).ask(
                    "PUT", f"/messages/{self.said[n % 40]['id']}/read"
                )
                for n, user_id in enumerate(crowd[:400])
            ]
        )


@pytest_asyncio.fixture
async def scene(start: Starter, people_of: Callable[[ChatServer], People]) -> Scene:
    server = await start(LARGE_CONVERSATION="100", WEBHOOK_URL="http://127.0.0.1:9/hook")
    scene = Scene(server, people_of(server))
    await scene.build()
    return scene


def requests(scene: Scene) -> dict[str, Request]:
    """Returns every kind of request that reads or writes what there is much of."""
    alice, bob, path, talk = scene.alice, scene.bob, scene.path, scene.talk
    middle, last = scene.said[MANY // 2], scene.said[-1]
    room = {"conversationId": talk["id"]}
    spare = scene.spare

    def rest(person: Person, method: str, path: str, body: Any = None) -> Request:
        return lambda: person.ask(method, path, body)

    def socket(event: str, **payload: Any) -> Request:
        return lambda: scene.wire.do(event, {**room, **payload})

    async def page_through(person: Person, path: str, key: str = "cursor") -> None:
        page = await person.ask("GET", path)
        if page["nextCursor"]:
            await person.ask("GET", f"{path}&{key}={page['nextCursor']}")

    async def connect() -> None:
        await (await Wire.connect(alice)).close()

    made = {
        "list": partial(page_through, alice, "/conversations?limit=200"),
        "get": rest(alice, "GET", path),
        "rename": rest(alice, "PATCH", path, {"name": "Many"}),
        "create": rest(alice, "POST", "/conversations", {"type": "group", "participantIds": []}),
        "direct": rest(alice, "POST", "/conversations/direct", {"userId": bob.id}),
        "private": rest(alice, "POST", "/conversations/private", {"userIds": [bob.id]}),
        "participants": partial(page_through, alice, f"{path}/participants?limit=200"),
        "admins": partial(page_through, alice, f"{path}/participants?limit=200&role=admin"),
        "add": rest(
            alice, "POST", f"{path}/participants", {"userIds": [who.id for who in spare[:5]]}
        ),
        "role": rest(alice, "PATCH", f"{path}/participants/{spare[0].id}", {"role": "admin"}),
        "remove": rest(alice, "DELETE", f"{path}/participants/{spare[1].id}"),
        "leave": rest(spare[2], "DELETE", f"{path}/participants/{spare[2].id}"),
        "come back": rest(alice, "POST", f"{path}/participants", {"userIds": [spare[2].id]}),
        "newest page": rest(alice, "GET", f"{path}/messages?limit=200"),
        "page before": rest(alice, "GET", f"{path}/messages?limit=200&before={middle['id']}"),
        "page after": rest(bob, "GET", f"{path}/messages?limit=200&after={middle['id']}"),
        "sync by rev": socket("messages:sync", afterRev=MANY // 2),
        "sync by seq": socket("messages:sync", afterSeq=10),
        "message": rest(alice, "GET", f"/messages/{middle['id']}"),
        "send": socket("message:send", content="Hello", clientMessageId="a"),
        "send again": socket("message:send", content="Hello", clientMessageId="a"),
        "edit": rest(alice, "PATCH", f"/messages/{scene.said[-2]['id']}", {"content": "edited"}),
        "react": rest(bob, "POST", f"/messages/{last['id']}/reactions", {"emoji": "👍"}),
        "reactions": partial(page_through, bob, f"/messages/{last['id']}/reactions?limit=100"),
        "unreact": rest(bob, "DELETE", f"/messages/{last['id']}/reactions/👍"),
        "delete": rest(bob, "DELETE", f"/messages/{scene.said[-3]['id']}", {"scope": "everyone"}),
        "hide": rest(bob, "DELETE", f"/messages/{scene.said[-4]['id']}", {"scope": "self"}),
        "read one": rest(alice, "PUT", f"/messages/{scene.said[9]['id']}/read"),
        "readers": partial(page_through, bob, f"/messages/{scene.said[5]['id']}/read?limit=200"),
        "unread": rest(alice, "GET", f"{path}/unread-count"),
        "read all": rest(alice, "PUT", f"{path}/read"),
        "unread after": rest(alice, "GET", f"{path}/unread-count"),
        "presence": rest(alice, "GET", f"/users/{bob.id}/presence"),
        "presences": partial(page_through, alice, f"{path}/presence?limit=200"),
        "presence batch": rest(alice, "POST", "/presence/batch", {"userIds": [bob.id]}),
        "typing": socket("typing:start"),
        "connect": connect,
    }
    return made


async def every_row(scene: Scene) -> dict[str, Request]:
    """Returns a valid request to each endpoint, and each event, in a conversation of two. Deletions have their own."""
    shared = await set_scene(scene.people)
    wire = await Wire.connect(shared.alice)

    async def ask(endpoint: Endpoint) -> None:
        there = await set_scene(scene.people) if endpoint.method == "DELETE" else shared
        path = endpoint.at(**there.ids, externalUserId=there.bob.id, endpoint="gone")
        body = endpoint.needs(there) or ({"name": "New"} if endpoint.method == "PATCH" else None)
        if endpoint in INTERNAL:
            status, answer = await scene.people.master(endpoint.method, path, body)
        else:
            status, answer = await there.alice.request(endpoint.method, path, body)
        # There are no events of an endpoint that is gone.
        assert status < 300 or path == "/webhooks/gone", (endpoint.name, status, answer)

    async def emit(event: Event) -> None:
        payload = event.needs(shared)
        if "token" in payload:
            payload["token"] = shared.alice.token
        await wire.do(event.name, payload)

    made: dict[str, Request] = {row.name: partial(ask, row) for row in (*ENDPOINTS, *INTERNAL)}
    for n, row in enumerate(sorted(EVENTS, key=lambda row: row.name == "message:delete")):
        made[f"{row.name} {n}"] = partial(emit, row)
    return made


def faults(operations: list[Operation]) -> list[str]:
    found = []
    for each in operations:
        if each.collection in SMALL:
            continue
        examined = each.keys + each.documents
        why = [
            *(["scans the collection"] * ("COLLSCAN" in each.plan)),
            *(["sorts in memory"] * each.sorts),
            *([f"examines {examined}"] * (examined > MOST)),
        ]
        if why:
            found.append(f"{', '.join(why)}: {each}")
    return found


async def test_no_request_scans_or_sorts_or_examines_much_or_asks_all_shards(scene: Scene) -> None:
    found: dict[str, list[str]] = {}
    everywhere: dict[str, set[str]] = {}
    large = requests(scene)
    for name, request in (large | await every_row(scene)).items():
        with profiled(scene.server) as operations:
            await request()
        if name in large and (why := faults(operations)):
            found[name] = why
        for operation in operations:
            for query in asks_all_shards(operation):
                everywhere.setdefault(query, set()).add(name)
    assert not {name: why for name, why in found.items() if name not in GROWS}
    assert set(found) == set(GROWS), "what no longer grows is not in GROWS"
    asked = {query: names for query, names in everywhere.items() if query not in BACKGROUND}
    assert not {query: names for query, names in asked.items() if query not in ALL_SHARDS}
    assert set(asked) == set(ALL_SHARDS), "what no longer asks all is not in ALL_SHARDS"


def test_the_check_finds_what_it_should() -> None:
    plain = Operation("log", "find", "IXSCAN { at: 1 }", MOST // 2, MOST // 2, 200, False, {})
    assert faults([plain]) == []
    for other in (
        Operation("log", "find", "COLLSCAN", 0, 1, 1, False, {}),
        Operation("log", "find", "IXSCAN { at: 1 }", 1, 1, 1, True, {}),
        Operation("log", "find", "IXSCAN { at: 1 }", MOST, 1, 1, False, {}),
    ):
        assert len(faults([other])) == 1
