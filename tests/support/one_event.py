"""One event, and the sink that posts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest_asyncio

from chatserver.chat.message import Message
from chatserver.outbox.endpoints import Endpoint, SinkOptions
from chatserver.outbox.event import Event
from chatserver.outbox.sinks.webhook import Webhook

from .receiver import Receiver
from .servers import WEBHOOK_SECRET


def event(number: int = 1) -> Event:
    at = datetime(2026, 11, 21, 9, 30)  # noqa: DTZ001  as the server has them
    message = Message(
        {
            "_id": f"c1-{number:08x}",
            "conversationId": "c1",
            "seq": number,
            "rev": number,
            "senderId": "alice",
            "content": "Привет",
            "at": at,
            "updatedAt": at,
        }
    )
    return Event(f"evt_{message.id}", "message.created", "c1", at, message.json)


@asynccontextmanager
async def posting(url: str, **settings: Any) -> AsyncIterator[Webhook]:
    secrets = settings.pop("secrets", (WEBHOOK_SECRET,))
    settings = {"timeout_s": 2, "concurrency": 4} | settings
    options = SinkOptions(**settings)
    webhook = Webhook(Endpoint(name="default", url=url, secrets=secrets, options=options))
    try:
        yield webhook
    finally:
        await webhook.close()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiving:
        yield receiving


@pytest_asyncio.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Webhook]:
    async with posting(receiver.url) as sink:
        yield sink
