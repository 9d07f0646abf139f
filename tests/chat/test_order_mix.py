"""Clients of every kind send ten thousand events in one room, and each receives its own sequence."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from tests.support.echo import Raw, serving
from tests.support.mixed import Guest, Party
from tests.support.raw import when
from tests.support.servers import ROOT

LISTENER = ROOT / "tests" / "js" / "listener.mjs"
EACH = 2000
BROWSERS = {
    "page": ["websocket"],
    "old page": ["polling"],
    "new page": ["polling", "websocket"],
}


async def browse(url: str, name: str, *transports: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(LISTENER), url, name, str(EACH), *transports), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return dict(json.loads(said))


async def test_every_client_receives_everything_once_and_in_order() -> None:
    party = Party()
    guests = {
        "talker": Guest("talker", EACH),
        "wanderer": Guest("wanderer", EACH),
        "sleepy": Guest("sleepy"),
        "poller": Guest("poller"),
        "climber": Guest("climber"),
    }
    woken = asyncio.Event()
    unsent = 0
    async with (
        asyncio.timeout(90),
        serving(party.sio) as url,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):
        root = url.removesuffix("/socket.io/")
        pages = {
            name: group.create_task(browse(root, name, *transports))
            for name, transports in BROWSERS.items()
        }
        group.create_task(guests["sleepy"].over_websocket(root, woken=woken))
        group.create_task(guests["poller"].over_polling(Raw(url, session)))
        climbing = guests["climber"].over_polling(Raw(url, session), upgrades_after=3000)
        group.create_task(climbing)
        # The others are in the room before the first event. The last page joins in the middle.
        await when(lambda: len(party.sids) >= 5)
        for name in ("talker", "wanderer"):
            group.create_task(guests[name].over_websocket(root))
        sleepy = party.sio.manager.eio_sid_from_sid(party.sids["sleepy"], "/")
        while sum(party.done.values()) < 5 * EACH:
            unsent = max(unsent, party.sio.eio.sockets[sleepy].websocket.unsent)
            if sum(party.done.values()) > 3 * EACH:
                woken.set()
            await asyncio.sleep(0.005)
        await when(lambda: len(party.answered) == len(party.asked))
        await party.end()
    assert unsent > 128 * 1024, "the slow client really was slow"
    heard = {name: guest.heard for name, guest in guests.items()}
    heard |= {name: page.result()["heard"] for name, page in pages.items()}
    assert {name: page.result()["transport"] for name, page in pages.items()} == {
        name: transports[-1] for name, transports in BROWSERS.items()
    }
    assert heard.keys() == party.told.keys()
    for name, lines in heard.items():
        assert lines == party.told[name], name
    assert sorted(party.answered) == sorted(party.asked)
    assert len(party.asked) == 5 * EACH // 10
