"""The playground with the keyboard alone, and for users who see little: axe finds no problems."""

from __future__ import annotations

from typing import Any

from playwright.async_api import expect

from tests.support.people_on_nodes import Spread
from tests.support.servers import ROOT
from tests.support.visits import Cast, Visit, Visitor

AXE = ROOT / "tests" / "js" / "node_modules" / "axe-core" / "axe.min.js"
TAKES_FOCUS = "a[href], button:not(:disabled), select, textarea, input, summary, [tabindex='0']"
MARK = """(all) => {
    const seen = [...document.querySelectorAll(all)].filter((one) =>
        one.checkVisibility({ visibilityProperty: true }));
    seen.forEach((one, at) => one.dataset.walk = at);
    return seen.map((one) => one.outerHTML.slice(0, 100));
}"""
WHERE = """() => {
    const at = document.activeElement;
    const style = getComputedStyle(at);
    const box = at.getBoundingClientRect();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const on = document.elementFromPoint(x, y);
    return {
        what: at.outerHTML.slice(0, 100),
        number: at.dataset.walk ?? null,
        isSomewhere: at !== document.body,
        hasRing: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isSeen: !!on && (at.contains(on) || on.contains(at)),
    };
}"""


async def press(visit: Visit, *keys: str) -> dict[str, Any]:
    """Presses keys. After each key an element must have the focus, with a ring. Returns that element."""
    at: dict[str, Any] = {}
    for key in keys:
        await visit.page.keyboard.press(key)
        # The key may have started a request to the server.
        await visit.page.wait_for_timeout(30)
        at = await visit.page.evaluate(WHERE)
        assert at["isSomewhere"], f"after {key} the focus is lost"
        assert at["hasRing"], f"after {key} no ring around {at['what']}"
        assert at["isSeen"], f"after {key} out of sight: {at['what']}"
    return at


async def walk_to(visit: Visit, words: str, key: str = "Tab") -> None:
    """Presses `key` until the focused element has these words."""
    for _ in range(60):
        if words in (await press(visit, key))["what"]:
            return
    raise AssertionError(f"{words} is not reached")


async def lively(nodes: Spread, cast: Cast, visitor: Visitor, name: str) -> Visit:
    """Alice reads a conversation with a reply, a deleted message and reactions."""
    reader, writer = cast(nodes.servers, "alice", "bob")
    group = await reader.group(writer, name=name)
    device = await writer.connect()
    first = await device.say(group, "Lunch?")
    answer = await device.say(group, "Or dinner", replyTo=first["id"])
    gone = await device.say(group, "Not this")
    await device.do("message:delete", {"messageId": gone["id"]})
    for emoji in ("👍", "🎉"):
        await device.do("reaction:add", {"messageId": answer["id"], "emoji": emoji})
    alice = await visitor(nodes.servers[0], "alice")
    await alice.open(name)
    await alice.sees("Lunch?", "Or dinner", "Deleted")
    return alice


async def test_tab_reaches_everything_and_the_focus_is_always_visible(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice = await lively(nodes, cast, visitor, "Walk")
    await alice.field.fill("Not sent yet")
    await alice.pane.locator(".new summary").click()
    await alice.message("Lunch?").locator("summary").click()
    await alice.page.evaluate("document.activeElement.blur()")
    await alice.page.get_by_role("link", name="REST").focus()
    wanted = await alice.page.evaluate(MARK, TAKES_FOCUS)
    reached = {(await alice.page.evaluate(WHERE))["number"]}
    for _ in range(len(wanted) + 10):
        if len(reached) == len(wanted):
            break
        reached.add((await press(alice, "Tab"))["number"])
    assert not [stop for at, stop in enumerate(wanted) if str(at) not in reached]


async def test_everything_works_with_keys_and_the_focus_is_never_lost(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice = await lively(nodes, cast, visitor, "Keys")
    keyboard = alice.page.keyboard
    await alice.chip("Keys").focus()
    await press(alice, "Enter")
    await expect(alice.field).to_be_focused()

    # Sent with the button, which is then disabled.
    await keyboard.type("From Alice")
    await press(alice, "Tab", "Enter")
    await expect(alice.field).to_be_focused()
    await expect(alice.message("From Alice")).to_be_visible()

    # A reaction is added from the menu, and removed with its own button, which then disappears.
    await walk_to(alice, "Actions: From", "Shift+Tab")
    await press(alice, "Enter")
    await walk_to(alice, "React with 👍")
    await press(alice, "Enter")
    mine = alice.message("From Alice").get_by_role("button", name="👍 1")
    await expect(mine).to_be_visible()
    await walk_to(alice, "👍 1", "Shift+Tab")
    await press(alice, "Enter")
    await expect(mine).to_have_count(0)
    await press(alice, "Tab")

    # Escape closes a menu. A reply and an edit start and end at the field.
    await alice.message("Lunch?").locator("summary").focus()
    await press(alice, "Enter", "Tab", "Escape")
    await expect(alice.message("Lunch?").locator("summary")).to_be_focused()
    await press(alice, "Enter")
    await walk_to(alice, ">Reply<")
    await press(alice, "Enter")
    await expect(alice.field).to_be_focused()
    await walk_to(alice, ">Cancel<", "Shift+Tab")
    await press(alice, "Enter")
    await expect(alice.field).to_be_focused()
    await press(alice, "ArrowUp", "End")
    await keyboard.type("!")
    await press(alice, "Enter")
    await expect(alice.message("From Alice!")).to_be_visible()

    # Deleted: the message and its menu disappear, and the focus is in the list.
    await alice.message("From Alice!").locator("summary").focus()
    await press(alice, "Enter")
    await walk_to(alice, ">Delete for everyone<")
    await press(alice, "Enter")
    await alice.sees("Lunch?", "Or dinner", "Deleted", "Deleted")
    await press(alice, "Tab")

    # A message is refused, and discarded.
    await alice.field.focus()
    await keyboard.insert_text("x" * 10_001)
    await press(alice, "Enter")
    await expect(alice.pane.locator(".message.failed")).to_have_count(1)
    await walk_to(alice, ">Discard<", "Shift+Tab")
    await press(alice, "Enter")
    await expect(alice.pane.locator(".message.failed")).to_have_count(0)
    await press(alice, "Tab")

    # An action that needs a connection shows a problem, which is dismissed. Then the connection is restored.
    await alice.switch.focus()
    await press(alice, "Space")
    await expect(alice.status).to_have_text("line cut")
    await alice.message("Lunch?").locator("summary").focus()
    await press(alice, "Enter", "Tab", "Enter")
    await expect(alice.pane.locator(".problem")).to_contain_text("There is no connection.")
    await walk_to(alice, '"Dismiss"', "Shift+Tab")
    await press(alice, "Enter")
    await expect(alice.pane.locator(".problem")).to_have_count(0)
    await press(alice, "Tab")
    await alice.switch.focus()
    await press(alice, "Space")
    await expect(alice.status).to_have_text("online")

    # A new group.
    await alice.pane.locator(".new summary").focus()
    await press(alice, "Enter", "Tab", "Space", "Tab", "Space")
    await walk_to(alice, ">Start<")
    await press(alice, "Enter")
    await expect(alice.pane.get_by_role("heading")).to_have_text("Alice, Bob, Carol")
    await expect(alice.field).to_be_focused()

    # Sign in as somebody else.
    await alice.pane.get_by_label("Signed in as").focus()
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(alice.pane.get_by_label("Signed in as")).to_be_focused()


async def test_a_message_that_somebody_else_deletes_does_not_take_the_focus_with_it(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice = await lively(nodes, cast, visitor, "Taken away")
    await alice.field.focus()
    await walk_to(alice, "Actions: Or dinner", "Shift+Tab")
    (bob,) = cast(nodes.servers, "bob")
    (group, *_) = (await bob.ask("GET", "/conversations"))["items"]
    said = (await bob.ask("GET", f"/conversations/{group['id']}/messages"))["items"]
    (dinner,) = [message["id"] for message in said if message["content"] == "Or dinner"]
    await bob.ask("DELETE", f"/messages/{dinner}")
    await alice.sees("Lunch?", "Deleted", "Deleted")
    await expect(alice.pane.get_by_role("list", name="Messages")).to_be_focused()


async def test_axe_finds_no_problems_light_or_dark_wide_or_narrow(
    nodes: Spread, cast: Cast, visitor: Visitor
) -> None:
    alice = await lively(nodes, cast, visitor, "Axe")
    await alice.says("x" * 10_001)
    await expect(alice.pane.locator(".message.failed")).to_have_count(1)
    await alice.says("Good")
    await alice.does("Reply", "Lunch?")
    await alice.field.fill("Yes")
    await alice.message("Or dinner").locator("summary").click()
    await alice.pane.locator(".new summary").click()
    await alice.page.locator(".packets summary").last.click()
    right = alice.page.locator(".pane.right")
    await right.get_by_role("switch").click()
    await expect(right.locator(".status")).to_have_text("line cut")
    # Through the browser's interface for tools, to which the page's policy does not apply.
    await alice.page.evaluate(AXE.read_text())
    for width, shows in ((1280, [""]), (360, ["Alice Berg", "Grace Nakamura", "Packets"])):
        await alice.page.set_viewport_size({"width": width, "height": 640})
        for name in shows:
            if name:
                await alice.page.locator(".shown").get_by_role("button", name=name).click()
            for scheme in ("light", "dark"):
                await alice.page.emulate_media(color_scheme=scheme)
                found = await alice.page.evaluate("axe.run({resultTypes: ['violations']})")
                where = f"{scheme}, {width}, {name}"
                assert not [told(violation) for violation in found["violations"]], where
                wide = await alice.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, where


def told(violation: Any) -> str:
    nodes = [f"{node['html'][:120]} {node['failureSummary'][:300]}" for node in violation["nodes"]]
    return f"{violation['impact']} {violation['id']}: {nodes[:4]}"
