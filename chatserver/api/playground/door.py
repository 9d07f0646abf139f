"""Serves the page, and signs in any visitor as one of the demo's people. For development only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any

from aiohttp import web

from ... import development
from ...chat.chat import Chat
from ...chat.users import UserSync
from ...development import PEOPLE
from ...errors import Forbidden, NotFound
from ...observability.metrics import Metrics
from ...settings import Settings
from ..http import MAX_BODY, answer, read, refusal_response
from ..requests.schema import Id, Request
from .origin import local_name

SIGNED_IN = timedelta(hours=1)
FILES = {
    "/playground": ("index.html", "text/html"),
    "/playground/playground.js": ("playground.js", "text/javascript"),
    "/playground/playground.css": ("playground.css", "text/css"),
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class OnePerson:
    user_id: str


class OfPerson(Request):
    makes = OnePerson
    user_id = Id(required=True)


class PlaygroundDoor:
    """Any visitor can be any of the people, so `settings.playground` is never true in production."""

    def __init__(self, chat: Chat, metrics: Metrics, settings: Settings) -> None:
        self._chat = chat
        self._metrics = metrics
        self._settings = settings

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path, (name, kind) in FILES.items():
            router.add_get(path, self._file(name, kind))
        router.add_get("/playground/people", self._door(self._people))
        router.add_post("/playground/token", self._door(self._token))

    def _door(
        self, work: Callable[[web.Request], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            async def checked() -> Any:
                host(request)
                return await work(request)

            name = f"{request.method} {request.path}"
            return await answer(request, self._metrics, "playground", name, checked, {})

        return handle

    async def _people(self, _: web.Request) -> Any:
        return {
            "people": [{"id": person.id, "name": person.name} for person in PEOPLE],
            "socketsPort": self._settings.ws_port,
        }

    async def _token(self, request: web.Request) -> Any:
        asked: OnePerson = await read(request, OfPerson, MAX_BODY)
        person = next((person for person in PEOPLE if person.id == asked.user_id), None)
        if person is None:
            raise NotFound("The playground has no person with this id.")
        # The page shows the name, and with AUTH_REQUIRE_KNOWN_USER only known users are admitted.
        await self._chat.users.sync(UserSync(person.id, {"name": person.name}))
        return {"token": development.token(self._settings, person.id, person.name, SIGNED_IN)}

    def _file(self, name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        text = cache(resources.files(__package__).joinpath("built", name).read_text)

        async def send(request: web.Request) -> web.Response:
            try:
                allowed = policy(host(request), self._settings.ws_port)
            except Forbidden as refused:
                return refusal_response(refused)
            headers = {"Content-Security-Policy": allowed, **HEADERS}
            return web.Response(text=text(), content_type=kind, headers=headers)

        return send


def host(request: web.Request) -> str:
    """Returns the host that the browser requested. Raises Forbidden for a DNS name."""
    name = local_name(request.host)
    if name is None:
        raise Forbidden("Open the playground at localhost, or at the server's IP address.")
    return name


def policy(name: str, sockets: int) -> str:
    # A content security policy cannot name an IPv6 address.
    where = "*" if name.startswith("[") else name
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        f"connect-src 'self' ws://{where}:{sockets}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
