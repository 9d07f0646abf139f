"""A request that waits while its user loses the role, or leaves, is decided by the order of the changes.

Of two nodes, the database of `far` is behind a proxy that holds one command. While it is held, the user loses
the right through `near`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.database_proxy import Nodes
from tests.support.people import Device, People, Person


@pytest_asyncio.fixture
async def people(two: Nodes) -> AsyncIterator[People]:
    async with aiohttp.ClientSession() as session:
        everyone = People(two.near, session)
        yield everyone
        await everyone.go_home()


async def state(viewer: Person, talk: Any) -> tuple[Any, dict[str, str], list[Any]]:
    """Returns the conversation, the roles of its participants, and its messages."""
    path = f"/conversations/{talk['id']}"
    view = await viewer.ask("GET", path)
    del view["updatedAt"]  # a change of roles changes it, too
    roles = {who["userId"]: who["role"] for who in view.pop("participants")}
    return view, roles, (await viewer.ask("GET", f"{path}/messages"))["items"]


NEW_NAME: dict[str, Any] = {"name": "Mine"}
JOINING = {"userIds": ["someone-new"]}


@pytest.mark.parametrize(
    ("role", "method", "path", "body", "held"),
    [
        ("admin", "PATCH", "{talk}", NEW_NAME, ("update", "conversations")),
        ("admin", "DELETE", "/messages/{message}", None, ("insert", "log")),
        (
            "admin",
            "DELETE",
            "{talk}/participants/{other}",
            None,
            ("findAndModify", "conversations"),
        ),
        ("admin", "POST", "{talk}/participants", JOINING, ("insert", "participants")),
        (
            *("owner", "POST", "{talk}/participants"),
            *({**JOINING, "role": "admin"}, ("insert", "participants")),
        ),
        (
            *("owner", "PATCH", "{talk}/participants/{other}"),
            *({"role": "admin"}, ("update", "conversations")),
        ),
        (
            *("owner", "PATCH", "{talk}/participants/{other}"),
            *({"role": "owner"}, ("update", "conversations")),
        ),
        ("owner", "DELETE", "{talk}", None, ("findAndModify", "conversations")),
    ],
)
async def test_a_role_that_is_lost_while_a_request_waits_no_longer_counts(
    two: Nodes,
    people: People,
    role: str,
    method: str,
    path: str,
    body: Any,
    held: tuple[str, str],
) -> None:
    owner, admin, other = people("owner", "admin", "other")
    talk = await owner.group(admin, other)
    members = f"/conversations/{talk['id']}/participants"
    await owner.ask("PATCH", f"{members}/{admin.id}", {"role": "admin"})
    desk = await other.connect()
    said = await desk.say(talk, "To stay")
    actor = (owner if role == "owner" else admin).at(two.far)
    names = {
        "talk": f"/conversations/{talk['id']}",
        "message": said["id"],
        "other": other.id,
    }
    view, roles, messages = await state(other, talk)

    hold = two.proxy.hold(*held, talk["id"])
    asked = asyncio.create_task(actor.request(method, path.format(**names), body))
    await hold.arrived()
    # The owner makes the admin the owner, and so becomes an admin; or the owner makes the admin a member.
    new = "owner" if role == "owner" else "member"
    await owner.ask("PATCH", f"{members}/{admin.id}", {"role": new})
    assert not asked.done()
    hold.release()

    status, answer = await asked
    assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    roles |= {owner.id: "admin" if role == "owner" else "owner", admin.id: new}
    assert await state(other, talk) == (view, roles, messages)
    # Nobody was told anything between the loss of the role and the next message.
    last = await other.at(two.far).ask(
        "POST", f"/conversations/{talk['id']}/messages", {"content": "After"}
    )
    await desk.hears("message:new", lambda message: message["id"] == last["id"])
    told = [name for name, _ in desk.heard]
    assert told[told.index("conversation:updated") :] == ["conversation:updated", "message:new"]


async def send(bob: Person, talk: Any, message: Any) -> tuple[int, Any]:
    path = f"/conversations/{talk['id']}/messages"
    return await bob.request("POST", path, {"content": "Too late"})


async def edit(bob: Person, talk: Any, message: Any) -> tuple[int, Any]:
    return await bob.request("PATCH", f"/messages/{message['id']}", {"content": "Too late"})


async def delete(bob: Person, talk: Any, message: Any) -> tuple[int, Any]:
    return await bob.request("DELETE", f"/messages/{message['id']}")


async def react(bob: Person, talk: Any, message: Any) -> tuple[int, Any]:
    return await bob.request("POST", f"/messages/{message['id']}/reactions", {"emoji": "👍"})


@pytest.mark.parametrize("change", [send, edit, delete, react])
@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize(
    "held",
    [
        # The node knows the end of the log, and writes at an offset that the removal takes.
        ("insert", "log"),
        # The node writes in this conversation for the first time, and is about to read the end of the log.
        ("find", "log"),
    ],
)
async def test_a_change_that_waits_while_its_user_is_removed_is_refused(
    two: Nodes,
    people: People,
    change: Callable[[Person, Any, Any], Awaitable[tuple[int, Any]]],
    connected: bool,
    held: tuple[str, str],
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    path = f"/conversations/{talk['id']}"
    message = await bob.ask("POST", f"{path}/messages", {"content": "In time"})
    far = bob.at(two.far)
    phone: Device | None = await far.connect() if connected else None
    if held == ("insert", "log"):
        await alice.at(two.far).ask("POST", f"{path}/messages", {"content": "Hello"})
    _, _, messages = await state(alice, talk)

    hold = two.proxy.hold(*held, talk["id"])
    asked = asyncio.create_task(change(far, talk, message))
    await hold.arrived()
    assert await alice.request("DELETE", f"{path}/participants/{bob.id}") == (204, None)
    last = await alice.ask("POST", f"{path}/messages", {"content": "He is gone"})
    assert not asked.done()
    hold.release()

    status, answer = await asked
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND")
    assert (await state(alice, talk))[1:] == ({alice.id: "owner"}, [*messages, last])
    if phone is not None:
        assert await phone.hears("conversation:removed") == {"conversationId": talk["id"]}


async def test_a_member_who_was_added_again_writes_through_a_node_that_is_new_to_the_conversation(
    two: Nodes, people: People
) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group(bob)
    path = f"/conversations/{talk['id']}"
    await alice.ask("DELETE", f"{path}/participants/{bob.id}")
    await alice.ask("POST", f"{path}/participants", {"userIds": [bob.id]})
    sent = await bob.at(two.far).ask("POST", f"{path}/messages", {"content": "Back"})
    assert (await state(alice, talk))[2] == [sent]


async def test_a_request_behind_the_removal_of_its_user_is_refused(
    two: Nodes, people: People
) -> None:
    owner, admin = [person.at(two.far) for person in people("owner", "admin")]
    talk = await owner.group()
    path = f"/conversations/{talk['id']}"
    await owner.ask("POST", f"{path}/participants", {"userIds": [admin.id], "role": "admin"})
    hold = two.proxy.hold("findAndModify", "conversations", talk["id"])
    removal = asyncio.create_task(owner.request("DELETE", f"{path}/participants/{admin.id}"))
    await hold.arrived()
    asked = asyncio.create_task(admin.request("PATCH", path, {"name": "Mine"}))
    await asyncio.sleep(0.2)  # it now waits behind the removal, in the queue of the conversation
    hold.release()
    assert await removal == (204, None)
    status, answer = await asked
    assert (status, answer["error"]["code"]) == (404, "NOT_FOUND")
    assert (await owner.ask("GET", path))["name"] is None


async def test_the_last_participant_leaves_while_another_joins(two: Nodes, people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.group()
    path = f"/conversations/{talk['id']}"
    hold = two.proxy.hold("findAndModify", "conversations", talk["id"])
    leaving = f"{path}/participants/{alice.id}"
    left = asyncio.create_task(alice.at(two.far).request("DELETE", leaving))
    await hold.arrived()
    await alice.ask("POST", f"{path}/participants", {"userIds": [bob.id]})
    assert not left.done()
    hold.release()
    assert await left == (204, None)
    (stays,) = (await bob.ask("GET", path))["participants"]
    assert (stays["userId"], stays["role"]) == (bob.id, "owner")
