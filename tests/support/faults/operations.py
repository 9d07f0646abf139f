"""The rows of the table: every kind of write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .stage import Scene, abort, connect

EMOJI = "👍"


async def _nothing(scene: Scene) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """A write. `attempt` makes it once, and raises Refused. A repeat of it must do no harm.

    `of`: the operation of the server, as `chatserver/api/operations` declares it; None for connections. `done`: the write
    has happened, as another client finds out by requests on the other node. `prepare` sets the scene further, before
    the failure.
    """

    name: str
    of: str | None
    attempt: Callable[[Scene], Awaitable[Any]]
    done: Callable[[Scene], Awaitable[bool]]
    prepare: Callable[[Scene], Awaitable[Any]] = _nothing


def _message(scene: Scene) -> str:
    return f"/messages/{scene.mine['id']}"


def _member(scene: Scene, user_id: str) -> str:
    return f"{scene.path}/participants/{quote(user_id, safe='')}"


# --- messages -----------------------------------------------------------------------------------


def _send(scene: Scene) -> Awaitable[Any]:
    return scene.emit(
        "message:send",
        conversationId=scene.group_id,
        content="Once",
        clientMessageId="once",
    )


def _send_by_rest(scene: Scene) -> Awaitable[Any]:
    body = {"content": "Once", "clientMessageId": "once"}
    return scene.alice.ask("POST", f"{scene.path}/messages", body)


async def _sent(scene: Scene) -> bool:
    texts = [message["content"] for message in (await scene.read())["messages"]]
    assert texts.count("Once") <= 1, texts
    return "Once" in texts


def _edit(scene: Scene) -> Awaitable[Any]:
    return scene.emit("message:edit", messageId=scene.mine["id"], content="Changed")


async def _edited(scene: Scene) -> bool:
    return bool((await scene.message(scene.mine["id"]))["content"] == "Changed")


def _delete(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("DELETE", _message(scene))


async def _deleted(scene: Scene) -> bool:
    return bool((await scene.message(scene.mine["id"]))["isDeleted"])


def _hide(scene: Scene) -> Awaitable[Any]:
    return scene.emit("message:delete", messageId=scene.theirs["id"], scope="self")


async def _hidden(scene: Scene) -> bool:
    group = await scene.read(scene.alice)
    hidden = next(message for message in group["messages"] if message["id"] == scene.theirs["id"])
    return bool(hidden["isDeleted"])


def _react(scene: Scene) -> Awaitable[Any]:
    return scene.emit("reaction:add", messageId=scene.mine["id"], emoji=EMOJI)


def _unreact(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("DELETE", f"{_message(scene)}/reactions/{quote(EMOJI)}")


async def _reacted(scene: Scene) -> bool:
    reactions = (await scene.message(scene.mine["id"]))["reactions"]
    assert reactions in ([], [{"emoji": EMOJI, "count": 1, "userIds": [scene.alice.id]}]), reactions
    return bool(reactions)


async def _unreacted(scene: Scene) -> bool:
    return not await _reacted(scene)


def _read_message(scene: Scene) -> Awaitable[Any]:
    return scene.emit("message:read", messageId=scene.theirs["id"])


def _read_conversation(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("PUT", f"{scene.path}/read")


async def _was_read(scene: Scene) -> bool:
    return scene.alice.id in (await scene.message(scene.theirs["id"]))["readers"]


# --- conversations ------------------------------------------------------------------------------


def _create(scene: Scene) -> Awaitable[Any]:
    people = [person.id for person in scene.people[1:4]]
    body = {"type": "group", "participantIds": people, "name": "New"}
    return scene.alice.ask("POST", "/conversations", body)


async def _created(scene: Scene) -> bool:
    # A group has no key, so a repeat may create another one.
    return "New" in await scene.names(scene.dave)


def _direct(scene: Scene) -> Awaitable[Any]:
    return scene.alice.direct(scene.dave)


async def _has_one_new(scene: Scene) -> bool:
    names = await scene.names(scene.dave)
    assert len(names) <= 1, names
    return bool(names)


def _private(scene: Scene) -> Awaitable[Any]:
    body = {"userIds": [scene.people[1].id, scene.dave.id]}
    return scene.alice.ask("POST", "/conversations/private", body)


def _add(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("POST", f"{scene.path}/participants", {"userIds": [scene.dave.id]})


async def _added(scene: Scene) -> bool:
    return scene.dave.id in (await scene.read())["roles"]


def _remove(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("DELETE", _member(scene, scene.eve.id))


async def _removed(scene: Scene) -> bool:
    return scene.eve.id not in (await scene.read())["roles"]


def _leave(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("DELETE", _member(scene, scene.alice.id))


async def _left(scene: Scene) -> bool:
    return scene.alice.id not in (await scene.read())["roles"]


def _change_role(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("PATCH", _member(scene, scene.eve.id), {"role": "admin"})


async def _changed_role(scene: Scene) -> bool:
    return bool((await scene.read())["roles"][scene.eve.id] == "admin")


def _rename(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("PATCH", scene.path, {"name": "Renamed"})


async def _renamed(scene: Scene) -> bool:
    return bool((await scene.read())["name"] == "Renamed")


def _end(scene: Scene) -> Awaitable[Any]:
    return scene.alice.ask("DELETE", scene.path)


async def _ended(scene: Scene) -> bool:
    return await scene.read() is None


# --- users --------------------------------------------------------------------------------------


def _sync(scene: Scene) -> Awaitable[Any]:
    body = {"externalUserId": scene.eve.id, "name": "Eve"}
    return scene.master("POST", "/users/sync", body)


def _sync_all(scene: Scene) -> Awaitable[Any]:
    body = {"users": [{"externalUserId": scene.eve.id, "name": "Eve"}]}
    return scene.master("POST", "/users/sync/batch", body)


async def _synced(scene: Scene) -> bool:
    return bool((await scene.user())["name"] == "Eve")


def _delete_user(scene: Scene) -> Awaitable[Any]:
    return scene.master("DELETE", f"/users/{quote(scene.eve.id, safe='')}")


async def _deleted_user(scene: Scene) -> bool:
    return bool((await scene.user())["status"] == "deleted") and await _removed(scene)


async def _connect(scene: Scene) -> Any:
    scene.visits.append(await connect(scene.eve))


async def _connected(scene: Scene) -> bool:
    return bool((await scene.read())["guest is online"])


async def _disconnect(scene: Scene) -> Any:
    """Eve's socket is cut. When it has been cut before, she first comes back."""
    if all(visit.gone.is_set() for visit in scene.visits):
        await _visit(scene)
    abort(scene.visits[-1])
    await scene.visits[-1].ended()


async def _disconnected(scene: Scene) -> bool:
    return not await _connected(scene)


async def _visit(scene: Scene) -> None:
    await _connect(scene)
    await scene.until(_connected)


# --- webhooks -----------------------------------------------------------------------------------


async def _replay(scene: Scene) -> Any:
    said = await scene.master("POST", "/webhooks/replay", {"ids": [f"evt_{scene.mine['id']}"]})
    assert said["replayed"] == 1, said


async def _replayed(scene: Scene) -> bool:
    return len(scene.stage.receiver.attempts(f"evt_{scene.mine['id']}")) > 1


async def _was_delivered(scene: Scene) -> bool:
    return bool(scene.stage.receiver.attempts(f"evt_{scene.mine['id']}"))


OPERATIONS = (
    Operation("send", "messages.send", _send, _sent),
    Operation("send over REST", "messages.send", _send_by_rest, _sent),
    Operation("edit", "messages.edit", _edit, _edited),
    Operation("delete", "messages.delete", _delete, _deleted),
    Operation("hide", "messages.delete", _hide, _hidden),
    Operation("react", "messages.react", _react, _reacted),
    Operation("unreact", "messages.unreact", _unreact, _unreacted, _react),
    Operation("read a message", "receipts.read_message", _read_message, _was_read),
    Operation("read a conversation", "receipts.read_conversation", _read_conversation, _was_read),
    Operation("create a group", "conversations.create", _create, _created),
    Operation("create a direct conversation", "conversations.direct", _direct, _has_one_new),
    Operation("create a private group", "conversations.private", _private, _has_one_new),
    Operation("add a member", "conversations.add", _add, _added),
    Operation("remove a member", "conversations.remove", _remove, _removed),
    Operation("leave", "conversations.remove", _leave, _left),
    Operation("change a role", "conversations.change_role", _change_role, _changed_role),
    Operation("rename", "conversations.edit", _rename, _renamed),
    Operation("end a conversation", "conversations.delete", _end, _ended),
    Operation("sync a user", "internal.sync", _sync, _synced),
    Operation("sync users", "internal.sync_all", _sync_all, _synced),
    Operation("delete a user", "internal.delete", _delete_user, _deleted_user, _sync),
    Operation("connect", None, _connect, _connected),
    Operation("disconnect", None, _disconnect, _disconnected, _visit),
    Operation(
        "replay webhooks",
        "internal.replay",
        _replay,
        _replayed,
        lambda scene: scene.until(_was_delivered),
    ),
)
UNTRIED = {
    "presence.of_many": "it only reads",
    "internal.forget": "it needs an endpoint that is no longer configured",
}
"""Operations without a row."""
