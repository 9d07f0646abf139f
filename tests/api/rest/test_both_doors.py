"""One service behind both doors: a change through one causes the same events as through the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.people import Device, People, Person, devices

Say = dict[str, Any]
Do = Callable[[Person, Device, Say, Say], Awaitable[Any]]


def over_rest(method: str, path: str, **body: Any) -> Do:
    async def do(person: Person, device: Device, talk: Say, message: Say) -> Any:
        where = path.format(c=talk["id"], m=message["id"])
        return await person.ask(method, where, named(body, talk, message) or None)

    return do


def over_a_socket(event: str, **payload: Any) -> Do:
    async def do(person: Person, device: Device, talk: Say, message: Say) -> Any:
        return await device.do(event, named(payload, talk, message))

    return do


def named(payload: Say, talk: Say, message: Say) -> Say:
    ids = {"{c}": talk["id"], "{m}": message["id"]}
    return {
        key: ids.get(value, value) if isinstance(value, str) else value
        for key, value in payload.items()
    }


FILES = [{"type": "file", "url": "https://files.example/a"}]
SENT = {"content": "New", "attachments": FILES, "clientMessageId": "c", "metadata": {"a": 1}}
OF = {"messageId": "{m}"}

SAME: list[tuple[str, str, Do, Do]] = [
    (
        "alice",
        "message:new",
        over_rest("POST", "/conversations/{c}/messages", replyTo="{m}", **SENT),
        over_a_socket("message:send", conversationId="{c}", replyTo="{m}", **SENT),
    ),
    (
        "alice",
        "message:updated",
        over_rest("PATCH", "/messages/{m}", content="Edited"),
        over_a_socket("message:edit", content="Edited", **OF),
    ),
    (
        "alice",
        "message:deleted",
        over_rest("DELETE", "/messages/{m}"),
        over_a_socket("message:delete", **OF),
    ),
    (
        "bob",
        "message:deleted",
        over_rest("DELETE", "/messages/{m}?scope=self"),
        over_a_socket("message:delete", scope="self", **OF),
    ),
    (
        "bob",
        "reaction:added",
        over_rest("POST", "/messages/{m}/reactions", emoji="🎉"),
        over_a_socket("reaction:add", emoji="🎉", **OF),
    ),
    (
        "bob",
        "reaction:removed",
        over_rest("DELETE", "/messages/{m}/reactions/👍"),
        over_a_socket("reaction:remove", emoji="👍", **OF),
    ),
    (
        "bob",
        "message:read",
        over_rest("PUT", "/messages/{m}/read"),
        over_a_socket("message:read", **OF),
    ),
    (
        "bob",
        "conversation:read",
        over_rest("PUT", "/conversations/{c}/read"),
        over_a_socket("conversation:read", conversationId="{c}"),
    ),
    (
        "bob",
        "conversation:read",
        over_rest("PUT", "/conversations/{c}/read", upToMessageId="{m}"),
        over_a_socket("conversation:read", conversationId="{c}", upToMessageId="{m}"),
    ),
]


@pytest.mark.parametrize(("who", "event", "rest", "socket"), SAME)
async def test_all_receive_the_same_through_either_door(
    people: People, who: str, event: str, rest: Do, socket: Do
) -> None:
    alice, bob, carol, stranger = people("alice", "bob", "carol", "stranger")
    everyone = await devices(alice, bob, bob, carol, stranger)
    desk, phone = everyone[:2]
    actor, device = (alice, desk) if who == "alice" else (bob, phone)

    async def dialogue(do: Do) -> tuple[Any, list[list[Any]]]:
        """Returns the actor's response and the events of each device, without the ids of this talk."""
        talk = await alice.group(bob, carol)
        message = await desk.say(talk, "The message")
        await phone.do("reaction:add", {"messageId": message["id"], "emoji": "👍"})
        await bob.ask("POST", f"/conversations/{talk['id']}/messages", {"content": "And another"})
        before = await heard_by_each(everyone)
        answer = await do(actor, device, talk, message)
        after = await heard_by_each(everyone)
        known = {talk["id"]: "the talk", message["id"]: "the message"}
        news = [now[len(old) :] for now, old in zip(after, before, strict=True)]
        return without_times(answer, known), without_times(news, known)

    answer, news = await dialogue(rest)
    assert (answer, news) == await dialogue(socket)
    for_bob_alone = isinstance(answer, dict) and answer.get("scope") == "self"
    others = [] if for_bob_alone else [event]
    heard = [[name for name, _ in events] for events in news]
    assert heard == [others, [event], [event], others, []]


async def heard_by_each(everyone: list[Device]) -> list[list[Any]]:
    """Returns the events that each device has received, without `user:online`."""
    await asyncio.gather(*[device.caught_up() for device in everyone])
    return [[news for news in device.heard if news[0] != "user:online"] for device in everyone]


def without_times(value: Any, known: dict[str, str]) -> Any:
    """Replaces times by "a time" and ids by names, so that two talks can be compared."""
    if isinstance(value, dict):
        return {
            key: "a time"
            if inner and (key.endswith("At") or key == "timestamp")
            else "an id"
            if key == "id" and inner not in known
            else without_times(inner, known)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_times(inner, known) for inner in value]
    if not isinstance(value, str):
        return value
    if value in known:
        return known[value]
    talk = next(known_id for known_id in known if known[known_id] == "the talk")
    return "a message of the talk" if value.startswith(f"{talk}-") else value
