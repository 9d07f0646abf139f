"""The examples of a Master Service, in Node and in Python, run unchanged against a real server."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import socketio
from yarl import URL

from tests.support.patience import PATIENCE_S
from tests.support.servers import INTERNAL_SECRET, ROOT, WEBHOOK_SECRET, ChatServer, free_port

COMMANDS = {
    "node": ["node", str(ROOT / "examples" / "proxy-node" / "server.mjs")],
    "python": [sys.executable, str(ROOT / "examples" / "proxy-python" / "server.py")],
}


class MasterService:
    def __init__(self, name: str, chat: ChatServer, port: int) -> None:
        self.name = name
        self.chat = chat
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.lines: list[str] = []
        self.process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]
        self._news = asyncio.Event()

    async def start(self) -> None:
        keys = ("AUTH_JWT_SECRET", "INTERNAL_API_SECRET", "WEBHOOK_SECRET")
        self.process = await asyncio.create_subprocess_exec(
            *COMMANDS[self.name],
            env={
                "PATH": os.environ["PATH"],
                "PORT": str(self.port),
                "CHAT_URL": self.chat.rest,
                "SOCKETS_URL": self.chat.sockets,
                **{key: self.chat.env[key] for key in keys},
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read())
        async with asyncio.timeout(PATIENCE_S):
            while not await self._listens():
                assert self.process.returncode is None, self.lines
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self.process.terminate()
        await self.process.wait()
        await self._reader

    async def prints(self, word: str, times: int = 1) -> list[str]:
        """Waits for this number of lines with the word, and returns them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := [line for line in self.lines if word in line]) < times:
                self._news.clear()
                await self._news.wait()
        return found

    async def _read(self) -> None:
        assert self.process.stdout
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())
            self._news.set()

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@pytest_asyncio.fixture(params=COMMANDS)
async def master(start: Any, request: pytest.FixtureRequest) -> AsyncIterator[MasterService]:
    port = free_port()
    chat = await start(WEBHOOK_URL=f"http://127.0.0.1:{port}/hooks/chat")
    service = MasterService(request.param, chat, port)
    await service.start()
    yield service
    await service.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    # Otherwise cookies from an IP address are not kept.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def ask(
    session: aiohttp.ClientSession, method: str, url: str, body: Any, headers: dict[str, str]
) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body)
    async with session.request(method, url, data=data, headers=headers) as answer:
        return answer.status, json.loads(await answer.read())


async def sign_in(master: MasterService, user: str, password: str) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
    credentials = {"user": user, "password": password}
    async with session.post(f"{master.url}/login", json=credentials) as answer:
        assert answer.status == 204
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    return session


async def test_users_chat_through_it_and_it_receives_the_webhooks(master: MasterService) -> None:
    alice = await sign_in(master, "alice", "wonderland")
    bob = await sign_in(master, "bob", "builder")
    async with alice, bob:
        chat = f"{master.url}/chat"
        status, talk = await ask(
            alice, "POST", f"{chat}/conversations/direct", {"userId": "bob"}, {}
        )
        assert status == 201
        async with bob.get(f"{master.url}/chat-token") as answer:
            given = await answer.json()
        phone, heard = socketio.AsyncClient(), asyncio.get_running_loop().create_future()
        phone.on("message:new", heard.set_result)
        await phone.connect(given["url"], auth={"token": given["token"]}, transports=["websocket"])
        for text in ("Hello, Bob", "?"):
            said = {"content": text}
            path = f"{chat}/conversations/{talk['id']}/messages"
            assert (await ask(alice, "POST", path, said, {}))[0] == 201
        assert (await asyncio.wait_for(heard, 10))["content"] == "Hello, Bob"
        await phone.disconnect()
        _, page = await ask(bob, "GET", f"{path}?limit=1", None, {})
        assert [message["content"] for message in page["items"]] == ["?"]
        status, error = await ask(bob, "GET", f"{chat}/messages/none", None, {})
        assert (status, error["error"]["code"]) == (404, "NOT_FOUND")
        status, seen = await ask(alice, "GET", f"{chat}/users/bob/presence", None, {})
        assert (status, seen["userId"]) == (200, "bob")
        secret = {"X-Internal-Secret": INTERNAL_SECRET}
        _, user = await ask(alice, "GET", f"{master.chat.rest}/api/users/bob", None, secret)
        assert user["name"] == "Bob"
    await master.prints("conversation.created")
    await master.prints("message.created", 2)


async def test_users_who_are_not_signed_in_get_nothing(
    master: MasterService, http: aiohttp.ClientSession
) -> None:
    for credentials in (
        {"user": "alice", "password": "wrong"},
        {"user": "alice", "password": ""},
        {"user": "nobody", "password": ""},
    ):
        async with http.post(f"{master.url}/login", json=credentials) as answer:
            assert (answer.status, answer.cookies.keys()) == (401, {}.keys())
    for path in ("/chat-token", "/chat/conversations", "/chat/users/sync"):
        for cookie in ("", "made-up"):
            async with http.get(master.url + path, cookies={"session": cookie}) as answer:
                assert answer.status == 401


async def test_users_reach_only_their_own_chat(master: MasterService) -> None:
    stolen = {"X-Internal-Secret": INTERNAL_SECRET, "X-User-Id": "bob"}
    async with await sign_in(master, "alice", "wonderland") as alice:
        status, talk = await ask(
            alice, "POST", f"{master.url}/chat/conversations/direct", {"userId": "bob"}, stolen
        )
        assert (status, talk["createdBy"]) == (201, "alice")
        user = {"externalUserId": "alice", "name": "Mallory"}
        for path in (
            *("/chat/users/sync", "/chat/webhooks", "/chat/users/bob", "/chat/../api/users/sync"),
            *("/chat/%2e%2e/api/users/sync", "/chat/conversations/../users/sync"),
            *("/chat/conversations/%2e%2e/users/sync", "/chat//users/sync", "/chat/", "/"),
        ):
            async with alice.post(
                URL(master.url + path, encoded=True), json=user, headers=stolen
            ) as answer:
                assert answer.status == 404, path


async def test_a_webhook_is_processed_once_and_only_if_it_is_genuine(
    master: MasterService, http: aiohttp.ClientSession
) -> None:
    body = json.dumps({"id": "evt_1", "type": "user.online", "data": {"name": "Zoë"}}).encode()

    def signed(at: int, secret: str = WEBHOOK_SECRET, of: bytes = body) -> str:
        mac = hmac.digest(secret.encode(), b"%d." % at + of, "sha256").hex()
        return f"t={at},v1={mac}"

    now = int(time.time())
    for header, status in (
        (signed(now), 204),
        (f"{signed(now, 'an old one')},{signed(now).split(',')[1]}", 204),
        (signed(now, "somebody else's secret"), 401),
        (signed(now, of=body + b" "), 401),
        (signed(now - 600), 401),
        (signed(now + 600), 401),
        ("", 401),
        ("t=x,v1=", 401),
        (f"t={now},v1=zz", 401),
    ):
        async with http.post(
            f"{master.url}/hooks/chat", data=body, headers={"X-Webhook-Signature": header}
        ) as answer:
            assert answer.status == status, header
    assert await master.prints("evt_1") == ["user.online evt_1"]


async def test_the_curl_commands_of_the_page_work(master: MasterService, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "master-service.md").read_text()
    (block,) = re.findall(r"^```sh\n(curl .*?)^```$", text, re.DOTALL | re.MULTILINE)
    answers = []
    for line in block.replace("http://127.0.0.1:8080", master.url).splitlines():
        curl = await asyncio.create_subprocess_shell(
            f"{line} --silent --show-error --fail", cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(curl.communicate(), 20)
        assert curl.returncode == 0, line
        answers.append(out)
    assert json.loads(answers[1])["type"] == "direct"
    assert json.loads(answers[2])["url"] == master.chat.sockets
    await master.prints("conversation.created")


BROWSER = """
const ask = globalThis.fetch;
// A browser resolves paths against the page's origin, and sends its cookie.
globalThis.fetch = (path) => ask("%s" + path, { headers: { cookie: "%s" } });
import { io } from "socket.io-client";
%s
socket.on("connected", ({ userId }) => {
  console.log(userId);
  socket.close();
});
"""


async def test_the_code_for_browsers_connects(master: MasterService) -> None:
    text = (ROOT / "docs" / "master-service.md").read_text()
    (block,) = re.findall(r"^```js\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    async with await sign_in(master, "alice", "wonderland") as alice:
        (cookie,) = alice.cookie_jar
    session = f"{cookie.key}={cookie.value}"
    node = await asyncio.create_subprocess_exec(
        *("node", "--input-type=module", "-e", BROWSER % (master.url, session, block)),
        cwd=ROOT / "tests" / "js",
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(node.communicate(), 20)
    assert said == b"alice\n"


def test_they_are_short() -> None:
    for command in COMMANDS.values():
        with open(command[-1]) as file:
            assert len(file.readlines()) < 120
