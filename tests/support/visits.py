"""People at the playground in a real Chromium: one browser per run, and a separate profile for each person."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import aiohttp
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect

from .patience import PATIENCE_S
from .people import Person
from .servers import ChatServer

NO_NETWORK = re.compile(r"WebSocket connection to '[^']+' failed|net::ERR_(CONNECTION|EMPTY)")
"""Messages that Chromium itself logs about a missing server. A page cannot suppress them."""
QUIET = (
    # In containers, tests run as root, and the sandbox cannot create namespaces.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
)
Visitor = Callable[..., Awaitable["Visit"]]
Cast = Callable[..., list[Person]]

expect.set_options(timeout=PATIENCE_S * 1000)


class Visit:
    """A person at a node's playground, in the left pane."""

    def __init__(self, page: Page, server: ChatServer) -> None:
        self.page = page
        self.server = server
        self.faults: list[str] = []
        self.pane = page.locator(".pane.left")
        self.field = self.pane.locator(".composer textarea")
        self.status = self.pane.locator(".status")
        self.switch = self.pane.get_by_role("switch", name="Cut the line")
        self.messages = self.pane.locator("li.message")
        self.packets = page.locator(".packets li pre")
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))

    def _console(self, said: ConsoleMessage) -> None:
        # A violation of the content security policy is an error there, too.
        if said.type in ("error", "warning"):
            self.faults.append(f"{said.type}: {said.text}")

    async def come(self, me: str, other: str = "grace") -> Self:
        """Opens the page as these two people, and waits until both are online."""
        await self.page.goto(f"{self.server.rest}/playground#{me}+{other}")
        await expect(self.page.locator(".status.online")).to_have_count(2)
        return self

    def chip(self, name: str) -> Locator:
        """Returns the button of a conversation, by its full name."""
        exactly = self.page.locator(".name", has_text=re.compile(f"^{re.escape(name)}$"))
        return self.pane.get_by_role("navigation").get_by_role("button").filter(has=exactly)

    async def open(self, name: str) -> None:
        await self.chip(name).click()
        await expect(self.pane.locator(".freshness")).to_have_text("live")

    async def says(self, text: str) -> None:
        await self.field.fill(text)
        await self.field.press("Enter")

    def message(self, text: str) -> Locator:
        exactly = re.compile(f"^{re.escape(text)}$")
        return self.messages.filter(has=self.page.locator(".content", has_text=exactly))

    async def sees(self, *texts: str) -> None:
        """Waits until exactly these messages are shown, in this order."""
        await expect(self.messages.locator(".content")).to_have_text(list(texts))

    async def does(self, what: str, to: str) -> None:
        """Chooses an action from the menu of a message."""
        actions = self.message(to).locator(".actions")
        await actions.locator("summary").click()
        await actions.get_by_role("button", name=what, exact=True).click()

    async def close(self, *, network_fails: bool = False) -> None:
        await self.page.context.close()
        if network_fails:
            self.faults = [fault for fault in self.faults if not NO_NETWORK.search(fault)]
        assert not self.faults, self.faults


@pytest_asyncio.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium: Playwright's own would have to be downloaded."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, headless=True, args=QUIET
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser, server: ChatServer, *, network_fails: bool = False, **options: Any
) -> AsyncIterator[Visit]:
    """Opens a page. At the end its console must have no errors, warnings or policy violations."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    context.set_default_timeout(PATIENCE_S * 1000)
    visit = Visit(await context.new_page(), server)
    try:
        yield visit
    finally:
        await visit.close(network_fails=network_fails)


@pytest_asyncio.fixture
async def visitor(chromium: Browser) -> AsyncIterator[Visitor]:
    """`alice = await visitor(server, "alice", network_fails=True)`."""
    async with AsyncExitStack() as stack:

        async def make(server: ChatServer, me: str, other: str = "grace", **options: Any) -> Visit:
            opened = await stack.enter_async_context(visit(chromium, server, **options))
            return await opened.come(me, other)

        yield make


@pytest_asyncio.fixture
async def cast() -> AsyncIterator[Cast]:
    """People of the playground as REST clients, of these servers in turn:
    `alice, bob = cast(nodes.servers, "alice", "bob")`."""
    async with aiohttp.ClientSession() as session:
        everybody: list[Person] = []

        def of(servers: Sequence[ChatServer], *ids: str) -> list[Person]:
            at = itertools.cycle(servers)
            some = [Person(next(at), user_id, session) for user_id in ids]
            everybody.extend(some)
            return some

        yield of
        for person in everybody:
            for device in person.devices:
                await device.close()
