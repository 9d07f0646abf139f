"""The project's own JavaScript client: its parts, with Node's test runner, and its README, run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

from .chatters import CLIENT, build
from .people import People

SETTING = """
const backend = {{ chatToken: async () => {token} }};
const url = {sockets}, userId = {alice}, getToken = backend.chatToken;
const rendered = [], banners = [], kept = new Map();
const render = (messages) => rendered.push(messages);
const hideBanner = () => banners.push("hidden"), showBanner = (text) => banners.push(text);
globalThis.localStorage = {{ getItem: (key) => kept.get(key) ?? null, setItem: (key, one) => kept.set(key, one) }};
const useEffect = (effect) => effect(), useSyncExternalStore = (_, snapshot) => snapshot();
"""
END = """
const shown = useConversation(conversation.id);
while (conversation.snapshot().messages.some((one) => one.state !== "sent") || useConversations().length < 2) {
  await new Promise((wake) => setTimeout(wake, 20));
}
lasting.conversation(conversation.id).send("Kept");
await new Promise((wake) => setTimeout(wake, 20));
const said = conversation.snapshot().messages.map((one) => [one.content, one.isDeleted]);
const first = rendered.find((messages) => messages.length === 1)[0];
const outbox = JSON.parse(kept.get(key)).map((one) => one.message.content);
console.log(JSON.stringify({
  said, outbox, timestamp, first: [first.content, first.state], presence: [...chat.presence.snapshot().keys()],
  group: group.type, status: shown.status, snapshot: useConversation(conversation.id) === conversation.snapshot(),
}));
chat.close();
"""


async def test_the_parts_of_the_client_do_what_they_promise() -> None:
    await asyncio.to_thread(build)
    command = ["node", "--test", "--test-reporter=spec", "test/"]
    ran = await asyncio.to_thread(
        subprocess.run, command, cwd=CLIENT, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert int(re.findall(r"pass (\d+)", ran.stdout)[-1]) > 100


async def test_what_the_readme_shows_works(people: People, tmp_path: Path) -> None:
    alice, bob = people("alice", "bob")
    await asyncio.to_thread(build)
    blocks = re.findall(r"^```js\n(.+?)^```", (CLIENT / "README.md").read_text(), re.M | re.S)
    assert len(blocks) == 7
    for shown, here in {
        "http://127.0.0.1:3001": alice.server.sockets,
        "http://127.0.0.1:3000": alice.server.rest,
        '"bob"': json.dumps(bob.id),
    }.items():
        assert any(shown in block for block in blocks)
        blocks = [block.replace(shown, here) for block in blocks]
    names = {"token": alice.token, "sockets": alice.server.sockets, "alice": alice.id}
    setting = SETTING.format(**{name: json.dumps(value) for name, value in names.items()})
    (tmp_path / "node_modules" / "@chatserver").mkdir(parents=True)
    (tmp_path / "node_modules" / "@chatserver" / "client").symlink_to(CLIENT)
    script = tmp_path / "readme.mjs"
    script.write_text("\n".join([*blocks[:1], *blocks[1:], END]).replace(";\n", ";\n" + setting, 1))

    ran = await asyncio.to_thread(
        subprocess.run, ["node", str(script)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    seen = json.loads(ran.stdout.splitlines()[-1])
    assert seen["said"] == [["Hello, Bob", False], ["", True], ["Or at one?", False]]
    assert seen["first"] == ["Hello, Bob", "pending"]
    assert (seen["outbox"], seen["group"], seen["snapshot"]) == (["Kept"], "group", True)
    assert bob.id in seen["presence"]
    assert seen["timestamp"]
