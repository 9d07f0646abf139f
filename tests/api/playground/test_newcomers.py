"""The first visitors of the playground of a server without users."""

from __future__ import annotations

from playwright.async_api import expect

from tests.conftest import Starter
from tests.support.people_on_nodes import Spread
from tests.support.visits import Cast, Visitor


async def test_a_newcomer_can_write_after_one_click(start: Starter, visitor: Visitor) -> None:
    server = await start(CORS_ORIGINS="https://chat.example")
    alice = await visitor(server, "alice", "bob")
    await expect(alice.pane.get_by_role("heading")).to_have_text("No conversations yet")
    await alice.pane.get_by_role("button", name="Talk to Bob").click()
    await expect(alice.field).to_be_focused()
    await alice.page.keyboard.type("Hello, Bob")
    await alice.page.keyboard.press("Enter")
    # It also opens in the other pane, where nothing was open.
    there = alice.page.locator(".pane.right .message .content")
    await expect(there).to_have_text(["Hello, Bob"])
    await expect(alice.message("Hello, Bob").get_by_role("img")).to_have_accessible_name(
        "Read by Bob Okafor"
    )


async def test_both_panes_start_with_a_shared_conversation(
    start: Starter, visitor: Visitor
) -> None:
    server = await start()
    alice = await visitor(server, "alice", "carol")
    await alice.pane.get_by_role("button", name="Talk to Carol").click()
    await alice.says("Hello, Carol")
    await alice.pane.get_by_label("Signed in as").select_option("Bob Okafor")
    await alice.pane.get_by_role("button", name="Talk to Carol").click()
    await alice.says("Good morning")
    await expect(alice.page.locator(".pane.right .unread")).to_have_text(" 1 unread")

    again = await visitor(server, "alice", "carol")
    for pane in (again.pane, again.page.locator(".pane.right")):
        await expect(pane.locator(".message .content")).to_have_text(["Hello, Carol"])
    assert await again.page.evaluate("document.activeElement === document.body")
    assert await again.page.title() == "Alice Berg, Carol Lindqvist: Playground"


async def test_both_panes_open_the_liveliest_conversation(
    start: Starter, visitor: Visitor, cast: Cast
) -> None:
    server = await start()
    alice, bob = cast([server], "alice", "bob")
    lively = await alice.group(bob, name="Lively")
    quiet = await alice.direct(bob)
    for talk, text in ((lively, "One"), (lively, "Two"), (quiet, "Later, and alone")):
        await alice.ask("POST", f"/conversations/{talk['id']}/messages", {"content": text})
    page = (await visitor(server, "alice", "bob")).page
    for side in ("left", "right"):
        await expect(page.locator(f".pane.{side} .message .content")).to_have_text(["One", "Two"])


async def test_signing_in_as_somebody_else_takes_effect_immediately(
    nodes: Spread, visitor: Visitor
) -> None:
    server = nodes.servers[0]
    visit = await visitor(server, "alice", "carol")
    choice = visit.pane.get_by_label("Signed in as")
    await choice.select_option("Farid Haddad")
    await expect(visit.page).to_have_url(f"{server.rest}/playground#farid+carol")
    await visit.page.reload()
    await expect(choice).to_have_value("farid")
