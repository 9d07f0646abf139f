"""A text that shows nothing is no text."""

from __future__ import annotations

import time

import jwt
import pytest

from chatserver.chat.text import shows_nothing
from tests.support.people import People, Refused
from tests.support.servers import JWT_SECRET

UNSEEN = {
    "Braille blank": "\u2800",
    "Hangul fillers": "\u3164\uffa0\u115f\u1160",
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "white space": " \u00a0\u2003\u3000\u2028\n\t",
    "selectors": "\ufe0f\ufe0e\U000e0100",
    "tags": "\U000e0067\U000e007f",
    "directions": "\u202e\u2066\u061c",
    "controls": "\0\x1b\x7f\x85",
    "soft hyphens": "\u00ad\u034f\u17b4",
    "null notehead": "\U0001d159",
}
SEEN = ["a\u200b", "\u2800.", "\u0600", "\u0301", "👩\u200d👧", "\ufffd", "⠁", "ㅤㅏ"]


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
async def test_a_message_needs_a_visible_character(people: People, text: str) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    sent = await desk.say(talk, "Visible")
    for event, where in (
        ("message:send", {"conversationId": talk["id"]}),
        ("message:edit", {"messageId": sent["id"]}),
    ):
        refusal = await desk.refused(event, {**where, "content": text})
        assert (refusal.code, list(refusal.details)) == ("VALIDATION_FAILED", ["content"])
    picture = {"type": "image", "url": "https://files.example/1.png"}
    assert (await desk.say(talk, text, attachments=[picture]))["content"] == text


async def test_a_text_with_a_visible_character_is_kept_as_it_is(people: People) -> None:
    alice, bob = people("alice", "bob")
    talk = await alice.direct(bob)
    desk = await alice.connect()
    for text in SEEN:
        assert (await desk.say(talk, text))["content"] == text


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
async def test_a_name_needs_a_visible_character(people: People, text: str) -> None:
    alice, bob = people("alice", "bob")
    with pytest.raises(Refused) as refused:
        await alice.ask(
            "POST", "/conversations", {"type": "group", "participantIds": [], "name": text}
        )
    assert list(refused.value.details) == ["name"]
    status, answer = await people.master(
        "POST", "/users/sync", {"externalUserId": bob.id, "name": text}
    )
    assert (status, list(answer["error"]["details"])) == (400, ["name"])
    # A token's name is only a help for users that the Master Service has not synced.
    claims = {"sub": bob.id, "name": text, "exp": time.time() + 60}
    given = jwt.encode(claims, JWT_SECRET, "HS256")
    headers = {"Authorization": f"Bearer {given}"}
    status, _ = await bob.request("GET", "/conversations", headers=headers)
    assert status == 200
    assert (await people.master("GET", f"/users/{bob.id}"))[1]["name"] is None


def test_unicode_is_read_as_it_says() -> None:
    assert shows_nothing("")
    for text in UNSEEN.values():
        assert all(map(shows_nothing, text)), ascii(text)
    for text in SEEN:
        assert not shows_nothing(text), ascii(text)
