"""The client that the relay is compared with. It only posts.

usage: python -m benchmark.bare URL FILE — posts every line of the file, IN_FLIGHT at a time.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import uvloop

IN_FLIGHT = 64
"""The relay's default."""


async def post(url: str, bodies: Iterable[bytes]) -> None:
    waiting = iter(bodies)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=IN_FLIGHT),
        headers={"Content-Type": "application/json"},
        raise_for_status=True,
    ) as http:

        async def post_on() -> None:
            for body in waiting:
                async with http.post(url, data=body) as answer:
                    await answer.read()

        await asyncio.gather(*(post_on() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    uvloop.run(post(sys.argv[1], Path(sys.argv[2]).read_bytes().splitlines()))
