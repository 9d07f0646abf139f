"""Two people in two browsers talk, each at the playground of a different node."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Response, expect

from tests.support.people import Person
from tests.support.people_on_nodes import Spread
from tests.support.visits import Cast, Visit, Visitor


async def meet(nodes: Spread, cast: Cast, visitor: Visitor, name: str) -> tuple[Visit, Visit]:
    """Alice and Bob are at two nodes, with a new group open."""
    first, other = cast(nodes.servers, "alice", "bob")
    await first.group(other, name=name)
    alice = await visitor(nodes.servers[0], "alice")
    bob = await visitor(nodes.servers[1], "bob", "henrik")
    for visit in (alice, bob):
        await visit.open(name)
    return alice, bob


async def test_they_talk(nodes: Spread, cast: Cast, visitor: Visitor) -> None:
    alice, bob = await meet(nodes, cast, visitor, "Talk")
    await alice.field.type("Hello")
    await expect(bob.pane.locator(".typing")).to_have_text("Alice is typing…")
    await alice.field.press("Enter")
    await expect(bob.pane.locator(".typing")).to_have_text("")
    await bob.sees("Hello")
    await expect(alice.message("Hello").get_by_role("img")).to_have_accessible_name(
        "Read by Bob Okafor"
    )

    await bob.does("Reply", "Hello")
    await bob.says("Helo, Alice")
    await alice.sees("Hello", "Helo, Alice")
    await expect(alice.message("Helo, Alice").locator("blockquote")).to_have_text("Alice: Hello")

    await bob.field.press("ArrowUp")
    await expect(bob.field).to_have_value("Helo, Alice")
    await bob.says("Hello, Alice")
    await alice.sees("Hello", "Hello, Alice")
    await expect(alice.message("Hello, Alice").locator(".about")).to_contain_text("edited")

    await alice.does("React with 🎉", "Hello, Alice")
    reaction = bob.message("Hello, Alice").get_by_role("button", name="🎉 1: Alice Berg")
    await expect(reaction).to_have_attribute("aria-pressed", "false")
    await reaction.click()
    for visit in (alice, bob):
        both = visit.message("Hello, Alice").get_by_role(
            "button", name="🎉 2: Alice Berg, Bob Okafor"
        )
        await expect(both).to_have_attribute("aria-pressed", "true")
    await reaction.page.get_by_role("button", name="🎉 2").click()
    await expect(
        alice.message("Hello, Alice").get_by_role("button", name="🎉 1: Alice Berg")
    ).to_be_visible()

    await alice.does("Delete for me", "Hello, Alice")
    await alice.sees("Hello", "Deleted")
    await bob.sees("Hello", "Hello, Alice")
    await alice.does("Delete for everyone", "Hello")
    await bob.sees("Deleted", "Hello, Alice")
    await alice.sees("Deleted", "Deleted")


async def test_all_participants_of_a_large_conversation_are_listed_on_request(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    first, other = cast(nodes.servers, "alice", "bob")
    talk = await first.group(other, name="Crowd")
    crowd = [f"crowd-{talk['id']}-{n:03}" for n in range(118)]
    path = f"/conversations/{talk['id']}/participants"
    await first.ask("POST", path, {"userIds": crowd})
    alice = await visitor(nodes.servers[0], "alice")
    await alice.open("Crowd")
    await alice.pane.get_by_role("button", name="All 120 participants").click()
    more = alice.pane.get_by_role("button", name="Show more")
    await expect(alice.pane.locator(".names")).to_contain_text(crowd[10])
    await more.click()
    await more.click()
    await expect(alice.pane.locator(".names")).to_contain_text(crowd[117])
    await expect(more).to_have_count(0)


async def test_all_who_reacted_or_have_read_are_listed_on_request(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    first, other = cast(nodes.servers, "alice", "bob")
    talk = await first.group(other, name="Cake")
    ids = [f"guest-{talk['id']}-{n:02}" for n in range(60)]
    path = f"/conversations/{talk['id']}"
    await first.ask("POST", f"{path}/participants", {"userIds": ids})
    said = await first.ask("POST", f"{path}/messages", {"content": "Cake?"})
    for user_id in ids:
        guest = Person(first.server, user_id, first.session)
        await guest.ask("POST", f"/messages/{said['id']}/reactions", {"emoji": "🎂"})
        await guest.ask("PUT", f"/messages/{said['id']}/read")
    alice = await visitor(nodes.servers[0], "alice")
    await alice.open("Cake")
    pill = alice.pane.get_by_role("button", name="🎂 60")
    await expect(pill).to_have_attribute("title", re.compile(f"{ids[49]} and 10 others$"))
    await alice.pane.get_by_role("button", name="Who?").click()
    names = alice.pane.locator(".reactions .names")
    await expect(names).to_contain_text(ids[49])
    await names.get_by_role("button", name="Show more").click()
    await expect(names).to_contain_text(ids[59])
    await expect(names.get_by_role("button")).to_have_count(0)
    await alice.pane.locator(".actions > summary").first.click()
    await alice.pane.get_by_role("button", name="Who has read it?").click()
    await alice.pane.locator(".actions .names").get_by_role("button", name="Show more").click()
    await expect(alice.pane.locator(".actions .names")).to_contain_text(ids[59])


async def test_a_user_who_does_not_mark_as_read_has_not_read(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice, bob = await meet(nodes, cast, visitor, "Unread")
    await bob.pane.get_by_label("Mark as read").uncheck()
    await alice.says("Seen?")
    await bob.sees("Seen?")
    tick = alice.message("Seen?").get_by_role("img")
    await expect(tick).to_have_accessible_name("Sent")
    chip = bob.chip("Unread")
    await expect(chip).to_have_text("Unread 1 unread")
    await bob.pane.get_by_label("Mark as read").check()
    await expect(tick).to_have_accessible_name("Read by Bob Okafor")
    await expect(chip).to_have_text("Unread")


async def test_a_user_who_closes_the_page_goes_offline(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice, bob = await meet(nodes, cast, visitor, "Presence")
    here = alice.pane.get_by_role("list", name="Participants")
    await expect(here).to_have_text("Bob online")
    await bob.page.close()
    await expect(here).to_have_text("Bob offline")


async def test_older_messages_load_on_request(nodes: Spread, cast: Cast, visitor: Visitor) -> None:
    alice, bob = cast(nodes.servers, "alice", "bob")
    group = await alice.group(bob, name="History")
    device = await bob.connect()
    texts = [f"Number {n}" for n in range(1, 121)]
    for text in texts:
        await device.say(group, text)
    reader = await visitor(nodes.servers[0], "alice")
    await reader.open("History")
    await expect(reader.message("Number 120")).to_be_in_viewport()
    shown = await reader.messages.count()
    assert shown < 120
    older = reader.pane.get_by_role("button", name="Older messages")
    await older.click()
    # The message at the top stays in view, so that a reader does not lose the place.
    await expect(reader.message(f"Number {121 - shown}")).to_be_in_viewport()
    while await older.count():
        there = await reader.messages.count()
        await older.click()
        await expect(reader.messages).not_to_have_count(there)
    await reader.sees(*texts)


async def test_a_new_conversation_appears_for_all_participants(
    nodes: Spread, visitor: Visitor
) -> None:
    elena = await visitor(nodes.servers[0], "elena", "dmitri")
    farid = await visitor(nodes.servers[1], "farid", "carol")
    names = ("Elena, Carol, Farid", "Elena, Carol, Dmitri, Farid")
    for name, people in zip(names, (("Carol", "Farid"), ("Carol", "Dmitri", "Farid")), strict=True):
        await elena.pane.locator(".new summary").click()
        for person in people:
            await elena.pane.locator(".new").get_by_label(person).check()
        await elena.pane.get_by_role("button", name="Start").click()
        await expect(elena.pane.get_by_role("heading", name=name, exact=True)).to_be_visible()
        await expect(elena.field).to_be_focused()
        await farid.open(name)
        await elena.says(f"To {name}")
        await farid.sees(f"To {name}")


async def test_what_is_refused_can_be_sent_again_or_discarded(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice, bob = await meet(nodes, cast, visitor, "Refused")
    await alice.says("x" * 10_001)
    await alice.says("Short")
    failed = alice.messages.filter(has=alice.page.get_by_role("alert"))
    await expect(failed).to_contain_text("content: Must have at most 10000 characters.")
    await bob.sees("Short")
    sends = alice.packets.filter(has_text=re.compile(r'^42\d+\["message:send"'))
    before = await sends.count()
    await failed.get_by_role("button", name="Send again").click()
    await expect(sends).to_have_count(before + 1)
    await failed.get_by_role("button", name="Discard").click()
    await alice.sees("Short")
    await bob.sees("Short")


async def test_the_packets_of_both_directions_are_shown_without_tokens(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    tokens: list[str] = []
    alice, _ = await meet(nodes, cast, visitor, "Packets")

    async def given(response: Response) -> None:
        if response.url.endswith("/playground/token"):
            tokens.append((await response.json())["token"])

    alice.page.on("response", given)
    await alice.page.reload()
    await expect(alice.page.locator(".status.online")).to_have_count(2)
    await alice.open("Packets")
    await alice.says('"token":"of a message"')
    await alice.sees('"token":"of a message"')
    up = alice.page.locator(".packets li.up pre")
    down = alice.page.locator(".packets li.down pre")
    await expect(up.filter(has_text=re.compile(r'^40\{"token":"…"\}$'))).to_have_count(2)
    await expect(down.filter(has_text=re.compile(r'^0\{"sid":'))).to_have_count(2)
    quoted = re.escape(r'"content":"\"token\":\"of a message\""')
    await expect(
        up.filter(has_text=re.compile(rf'^42\d+\["message:send".*{quoted}'))
    ).to_have_count(1)
    await expect(down.filter(has_text=re.compile(rf'^42\["message:new".*{quoted}'))).to_have_count(
        1
    )
    assert tokens
    html = await alice.page.content()
    assert not [token for token in tokens if token in html or token.rpartition(".")[2] in html]


@pytest.mark.parametrize("text", ["<img src=x onerror=document.title='owned'>", "<b>&amp;</b>"])
async def test_markup_is_shown_as_it_was_written(
    nodes: Spread, cast: Cast, visitor: Visitor, text: str
) -> None:
    alice, bob = cast(nodes.servers, "alice", text)
    group = await alice.group(bob, name=text)
    reader = await visitor(nodes.servers[0], "alice")
    await reader.open(text)
    device = await bob.connect()
    said = await device.say(group, text)
    await device.say(group, "An answer", replyTo=said["id"])
    await device.do("typing:start", {"conversationId": group["id"]})
    await reader.sees(text, "An answer")
    await expect(reader.message(text).locator(".from")).to_have_text(text)
    await expect(reader.pane.locator("blockquote")).to_contain_text(text)
    await expect(reader.pane.locator(".typing")).to_contain_text(text.split(" ", maxsplit=1)[0])
    assert await reader.page.locator("img, b:not(.packets b, .draft b)").count() == 0
    assert "owned" not in await reader.page.title()
