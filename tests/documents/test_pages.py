"""Every block of code on a page is run by a test or a script, and every link has a target."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

from chatserver.api.responses.conversations import Conversation
from chatserver.api.responses.messages import MessageResponse
from chatserver.cli import commands
from tests.support.pages import Block, anchors, block, blocks, links, names, pages, text, tree
from tests.support.servers import ROOT

TRYOUT = "scripts/tryout"
"""The script runs each line of the block."""
BENCH = "--help of scripts/bench"
"""The block would take too long to run. A test checks that its scenarios and options exist."""
COMMANDS = "--help of chatserver"
"""Other tests run the command. A test here checks that the options exist."""
HERE = "documents/test_pages.py::"
MASTER = "documents/test_master_service.py::"
MIGRATING = "documents/test_migrating.py::"
SIGNING = "outbox/test_signing.py::"
README = "documents/test_readme.py::"
CLIENT = "clients/test_*.py::test_the_code_of_the_readme"
SECRETS = 'for key in AUTH_JWT_SECRET INTERNAL_API_SECRET WEBHOOK_SECRET; do echo "$key=$(openssl rand -base64 48)"; done > secrets.env'

RUN: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "./scripts/serve": TRYOUT,
        ".venv/bin/chatserver demo": TRYOUT,
        "npm ci --prefix clients/js": TRYOUT,
        "// hello/own.mjs": f"{README}test_each_client_of_the_readme_sends_a_message",
        "// hello/official.mjs": f"{README}test_each_client_of_the_readme_sends_a_message",
        "TOKEN=$(.venv/bin/chatserver token --user alice --name Alice) node hello/own.mjs": TRYOUT,
        'pip install ".[embedded]"': TRYOUT,
        "docker compose up --build": TRYOUT,
        "./scripts/bench room history --rounds 1 --seconds 1": TRYOUT,
        "./scripts/test": TRYOUT,
    },
    "chatserver/realtime/README.md": {
        "from aiohttp import web": "realtime/test_server.py::test_the_example_of_the_readme_works",
        "from chatserver.realtime.bus import Bus": f"{README}test_the_code_for_the_bus_publishes_a_message",
    },
    "chatserver/realtime/redis_manager/README.md": {
        "from chatserver.realtime import RealtimeServer": f"{README}"
        "test_the_code_for_several_nodes_makes_a_connected_server",
    },
    "clients/js/README.md": {block.first: CLIENT for block in blocks("clients/js/README.md")},
    "docs/benchmarks.md": {block.first: BENCH for block in blocks("docs/benchmarks.md")},
    "docs/commands.md": {
        "chatserver demo": COMMANDS,
        "chatserver tail --conversation 6920306ab1f24f6f9a4c1d55 --user alice": COMMANDS,
        "09:30:00  alice           #12  Hello, Bob!": f"{README}test_tail_prints_the_shown_lines",
        "chatserver load --users 200 --conversations 20 --rate 100 --seconds 30": COMMANDS,
        "ms        p50   p95    p99    max   count": f"{README}test_load_prints_the_shown_lines",
    },
    "docs/design.md": {
        "   browsers, phones (Socket.IO)          Master Service (HTTP)": f"{HERE}"
        "test_the_packages_of_the_drawing_exist",
    },
    "docs/master-service.md": {
        "# from examples/proxy-python/server.py": f"{HERE}test_the_excerpt_equals_the_example",
        SECRETS: TRYOUT,
        "set -a && . ./secrets.env && node examples/proxy-node/server.mjs": TRYOUT,
        """curl -c jar -d '{"user": "alice", "password": "wonderland"}' http://127.0.0.1:8080/login""": (
            f"{MASTER}test_the_curl_commands_of_the_page_work"
        ),
        'const chatToken = async () => (await fetch("/chat-token")).json();': (
            f"{MASTER}test_the_code_for_browsers_connects"
        ),
    },
    "docs/migrating.md": {
        "# nodes.py": f"{MIGRATING}test_the_code_for_several_nodes_makes_a_server",
        "set -a && . ./secrets.env": f"{MIGRATING}test_an_old_chat_is_imported_without_duplicates",
    },
    "docs/operations.md": {
        'mongodump --uri="$MONGO_URL" --oplog --gzip --archive=chat.gz': "faults/test_restore.py::"
        "test_a_restored_server_continues_from_its_backup",
        "chatserver migrate": COMMANDS,
        "chatserver jobs": COMMANDS,
        "use chat": "operations/test_sharding.py::test_the_shown_commands_have_the_declared_keys",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318": f"{HERE}test_every_shown_setting_exists",
    },
    "docs/performance.md": {block.first: BENCH for block in blocks("docs/performance.md")},
    "docs/protocol.md": {
        "// connect.mjs": f"{README}test_the_code_of_the_protocol_connects_and_reconnects",
        "{id, conversationId, seq, rev, senderId, content, attachments, replyTo, mentions, metadata,": (
            f"{HERE}test_shapes_have_the_keys_of_the_responses"
        ),
        "// follow.mjs": f"{README}test_the_follower_of_the_protocol_has_everything",
        "{id, type: direct|group|channel, name, avatarUrl, metadata, createdBy, createdAt, updatedAt,": (
            f"{HERE}test_shapes_have_the_keys_of_the_responses"
        ),
    },
    "docs/webhooks.md": {
        "POST /hooks/chat HTTP/1.1": f"{HERE}test_a_webhook_has_the_shown_headers",
        "# with_chatserver.py": SIGNING,
        "# without_chatserver.py": SIGNING,
        "// verify.mjs": SIGNING,
        "// receiver.mjs": SIGNING,
        "# once.py": SIGNING,
        "chatserver webhooks status": COMMANDS,
    },
}


@pytest.mark.parametrize("page", sorted({str(path) for path in pages() if blocks(path)} | {*RUN}))
def test_each_block_has_a_runner(page: str) -> None:
    assert sorted(block.first for block in blocks(page)) == sorted(RUN.get(page, {}))


def run_by(runner: str) -> list[tuple[str, Block]]:
    return [
        (page, block(page, first))
        for page, table in RUN.items()
        for first, what in table.items()
        if what == runner
    ]


def test_each_runner_exists_and_reads_its_page() -> None:
    for page, table in RUN.items():
        for runner in {*table.values()} - {TRYOUT, BENCH, COMMANDS}:
            file, _, name = runner.partition("::")
            source = "\n".join(path.read_text() for path in (ROOT / "tests").glob(file))
            assert Path(page).name in source, runner
            assert re.search(rf"^(?:async )?def {name}", source, re.MULTILINE), runner


def test_tryout_runs_each_line() -> None:
    tried = {*re.findall(r"(?:line|begin|here|in|\\\n) +'(.+?)'", text(TRYOUT))}
    # The README's last commands include scripts/tryout, which cannot run itself. CI runs these commands.
    tried |= {*re.findall(r"^\./scripts/\w+$", text(".ci/run"), re.MULTILINE)}
    # The tests have no Docker; operations/test_compose.py checks the files that it would use.
    tried.add("docker compose up --build")
    shown = [line for _, block in run_by(TRYOUT) for line in block.lines]
    assert len(shown) > 15
    assert not {*shown} - tried


# --- The command line ---------------------------------------------------------------------------


def shown_commands() -> Iterator[list[str]]:
    """Yields every `chatserver …` command of a page, in a block or in a sentence."""
    for page in pages():
        said = text(page)
        inline = re.findall(r"`((?:\.venv/bin/)?chatserver [^`]+)`", said)
        lines = [
            line for block in blocks(page) if block.language in ("", "sh") for line in block.lines
        ]
        for line in [*inline, *lines]:
            if found := re.search(r"(?:^|/|\$\()chatserver ([^)|>]*)", line):
                yield found[1].split()


def test_every_shown_command_has_the_shown_options() -> None:
    top = typer.main.get_command(commands)
    seen = 0
    for words in shown_commands():
        command: Any = top
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
            elif word.startswith("--") and word != "--help":
                options = {name for option in command.params for name in option.opts}
                assert word in options, words
        assert command is not top or words[0] in ("…", "--help"), words
        seen += 1
    assert seen > 25


async def test_every_shown_benchmark_has_the_shown_scenarios_and_options() -> None:
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmark", "--help"),
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}", "COLUMNS": "1000"},
        stdout=asyncio.subprocess.PIPE,
    )
    out = (await ran.communicate())[0].decode()
    listed = re.search(r"one or more of ([\w, ]+) \(all\)", out)
    assert listed
    scenarios = set(listed[1].split(", "))
    shown = [re.findall(r"\./scripts/bench\b([^`\n#]*)", text(page)) for page in pages()]
    for words in (command.split() for found in shown for command in found):
        options = [word for word in words if word.startswith("--")]
        assert all(re.search(rf"{option}\b", out) for option in options), words
        before = words[: words.index(options[0])] if options else words
        assert {*before} <= scenarios, words
    assert len([command for found in shown for command in found]) > 25


def test_every_shown_setting_exists() -> None:
    known = {*re.findall(r"^#([A-Z_]+)=", text("config/example.env"), re.MULTILINE)}
    for page in ("docs/operations.md", "README.md", "docs/master-service.md"):
        for listing in blocks(page):
            for key in re.findall(r"^(?:.*&& )?([A-Z][A-Z_]+)=", listing.text, re.MULTILINE):
                assert key in known or key.startswith("OTEL_TRACES_SAMPLER") or key == "TOKEN", key


# --- Blocks that are not programs ---------------------------------------------------------------


def keys(shape: str) -> set[str]:
    """Returns the outer keys of a shape: of `{id, type: a|b, items: [{userId}]}`, id, type and items."""
    while (flat := re.sub(r"\[?\{[^{}]*\}\]?", "", shape[1:-1])) != shape[1:-1]:
        shape = f"{{{flat}}}"
    return {pair.split(":")[0].strip() for pair in shape.strip()[1:-1].split(",")}


def test_shapes_have_the_keys_of_the_responses() -> None:
    page = "docs/protocol.md"
    message, conversation = (block for block in blocks(page) if block.text.startswith("{id"))
    assert keys(message.text.strip()) == {
        field.data_key for field in MessageResponse().fields.values()
    }
    answered = {field.data_key for field in Conversation().fields.values()}
    assert keys(conversation.text.strip()) == answered - {"unreadCount"}


def test_a_webhook_has_the_shown_headers() -> None:
    shown = blocks("docs/webhooks.md")[0].text
    sent = text("chatserver/outbox/sinks/webhook.py") + text("chatserver/outbox/signing.py")
    names = re.findall(r"^([\w-]+): ", shown, re.MULTILINE)
    assert len(names) == 5
    assert all(f'"{name}"' in sent for name in names), names


def test_the_packages_of_the_drawing_exist() -> None:
    drawn = re.findall(
        r"([\w/]+)/", block("docs/design.md", next(iter(RUN["docs/design.md"]))).text
    )
    assert len(drawn) == 7
    assert all((ROOT / "chatserver" / folder / "__init__.py").exists() for folder in drawn)


def test_the_excerpt_equals_the_example() -> None:
    excerpt = block("docs/master-service.md", "# from examples/proxy-python/server.py").text
    example = text("examples/proxy-python/server.py")
    parts = excerpt.split("\n", 1)[1].strip().split("\n\n\n")
    assert len(parts) == 3
    assert all(f"\n{part}\n" in example for part in parts)


def test_the_figures_of_the_readme_are_in_the_docs() -> None:
    _, _, rest = text("README.md").partition("\n## Figures\n")
    rows = [line for line in rest.split("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    documented = text("docs/performance.md") + text("docs/benchmarks.md")
    figures = {
        figure
        for row in rows
        for figure in re.findall(r"\d[\d,]*\.?\d*", "|".join(row.split("|")[2:5]))
    }
    assert len(figures) > 15
    missing = {
        figure
        for figure in figures
        if not re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d])", documented)
    }
    assert not missing


# --- Links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages(), ids=str)
def test_links_have_targets(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page.parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), link


def test_named_files_exist() -> None:
    ends = {"/".join(path.parts[-n:]) for path in tree() for n in range(1, len(path.parts) + 1)}
    # Created by the user, so not in the repository.
    ends |= {"secrets.env", "DATA_DIR/secrets.json", "config/webhooks.toml"}
    seen = {(page, name) for page in pages() for name in names(page)}
    assert len(seen) > 80
    assert not {(str(page), name) for page, name in seen if name not in ends}
