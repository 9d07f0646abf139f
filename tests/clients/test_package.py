"""The npm package of the project's own JavaScript client, installed; and the code of its README, run."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.chatters import CLIENT, build
from tests.support.people import People, Person
from tests.support.servers import ROOT

APP = ROOT / "tests" / "js" / "readme"
BLOCKS = (
    "page.ts",
    "react.tsx",
    "messages.ts",
    "failed.ts",
    "rest.ts",
    "connection.ts",
    "storage.ts",
)
AROUND = """
import { ChatClient, type ConversationView, type OutboxStorage } from "@chatserver/client";
import { getToken, hideBanner, showBanner, url, userId } from "./app.js";
import { chat, conversation } from "./page.js";
"""
EXPORTS = {
    "page.ts": "export { chat, conversation };",
    "rest.ts": "export { stop, timestamp, group };",
    "storage.ts": "export { lasting, storage };",
}
STRICT = {
    "target": "ES2022",
    "lib": ["ES2022", "DOM"],
    "types": [],
    "jsx": "react-jsx",
    "strict": True,
    "exactOptionalPropertyTypes": True,
    "noUncheckedIndexedAccess": True,
    "verbatimModuleSyntax": True,
}
RESOLUTIONS: dict[str, dict[str, Any]] = {
    "node": {"module": "NodeNext", "outDir": "built"},
    "bundler": {"module": "ESNext", "moduleResolution": "bundler", "noEmit": True},
}


async def run(*command: str | Path, cwd: Path) -> str:
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]
    return ran.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build()
    folder = tmp_path_factory.mktemp("package")
    command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    subprocess.run(command, cwd=CLIENT, check=True, stdout=subprocess.DEVNULL)
    (packed,) = folder.iterdir()
    return packed


def test_the_package_has_code_types_and_readme_and_nothing_else(package: Path) -> None:
    with tarfile.open(package) as tar:
        names = {name.removeprefix("package/") for name in tar.getnames()}
        member = tar.extractfile("package/package.json")
        assert member is not None
        manifest = json.load(member)
    modules = {file.stem for file in (CLIENT / "src").iterdir()}
    built = {f"dist/{module}{end}" for module in modules for end in (".js", ".js.map", ".d.ts")}
    assert built | {"package.json", "README.md", "LICENSE"} == names
    assert list(manifest["dependencies"]) == ["socket.io-client"]
    assert manifest["exports"]["."] == {
        "types": "./dist/index.d.ts",
        "default": "./dist/index.js",
    }
    assert (manifest["type"], manifest["sideEffects"]) == ("module", False)


@asynccontextmanager
async def back_end(alice: Person) -> AsyncIterator[str]:
    """A back end for the page: it returns Alice's token, and proxies the REST API."""

    async def chat_token(_: web.Request) -> web.Response:
        return web.json_response({"token": alice.token})

    async def api(request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in ("Authorization",)}
        if request.can_read_body:
            headers["Content-Type"] = request.content_type
        url = f"{alice.server.rest}/api{request.path_qs.removeprefix('/chat')}"
        body = await request.read()
        async with alice.session.request(request.method, url, data=body, headers=headers) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )

    app = web.Application()
    app.router.add_get("/chat-token", chat_token)
    app.router.add_route("*", "/chat/{path:.*}", api)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


def readme(instead: dict[str, str]) -> dict[str, str]:
    """Returns its blocks as modules. `instead` replaces addresses and ids by those of the test."""
    text = (CLIENT / "README.md").read_text()
    blocks = re.findall(r"^```tsx?\n(.+?)^```", text, re.M | re.S)
    assert len(blocks) == len(BLOCKS)
    assert len(blocks[0].splitlines()) <= 30
    assert "```js" not in text
    for shown, here in instead.items():
        assert any(shown in block for block in blocks)
        blocks = [block.replace(shown, here) for block in blocks]
    named = dict(zip(BLOCKS, blocks, strict=True))
    return {
        name: (AROUND if name != "page.ts" else "") + block + EXPORTS.get(name, "export {};")
        for name, block in named.items()
    }


async def test_the_code_of_the_readme_compiles_and_works_with_the_installed_package(
    package: Path, people: People, tmp_path: Path
) -> None:
    alice, bob = people("alice", "bob")
    shutil.copytree(APP, tmp_path, dirs_exist_ok=True)
    modules = tmp_path / "node_modules"
    # The dependencies are copied, so that the installation needs no network.
    skip = shutil.ignore_patterns(".*", "typescript", "@typescript")
    shutil.copytree(CLIENT / "node_modules", modules, ignore=skip)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    install = ("npm", "install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts")
    await run(*install, package, cwd=tmp_path)
    (tmp_path / "react").rename(modules / "react")

    async with back_end(alice) as origin:
        instead = {
            "http://127.0.0.1:3001": alice.server.sockets,
            '"/chat"': json.dumps(f"{origin}/chat"),
            '"/chat-token"': json.dumps(f"{origin}/chat-token"),
            '"bob"': json.dumps(bob.id),
        }
        for name, block in readme(instead).items():
            (tmp_path / name).write_text(block)
        for kind, options in RESOLUTIONS.items():
            config = {"compilerOptions": {**STRICT, **options}, "include": ["*.ts", "*.tsx"]}
            (tmp_path / f"{kind}.json").write_text(json.dumps(config))
            await run(CLIENT / "node_modules" / ".bin" / "tsc", "-p", f"{kind}.json", cwd=tmp_path)
        said = await run(
            *("node", "built/main.js", alice.server.sockets, alice.id, alice.token), cwd=tmp_path
        )

    seen = json.loads(said.splitlines()[-1])
    assert seen["first"] == [f"{alice.id}: Hello, Bob (pending)"]
    assert (seen["then"], seen["field"]) == ([f"{alice.id}: Hello, Bob"], "")
    assert seen["shown"] == [["Hello, Bob", False], ["", True], ["Or at one?", False]]
    assert (seen["same"], seen["kept"]) == (True, ["Kept"])
    assert "Or at one?" in seen["inbox"]
    assert bob.id in seen["presence"]
