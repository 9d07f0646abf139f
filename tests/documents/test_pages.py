"""What the pages show is run: each block of code has something that runs it; and links lead somewhere."""

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
"""Each line of the block is one of its."""
BENCH = "--help of scripts/bench"
"""It takes too long to be run: the scenarios and options are those that there are."""
COMMANDS = "--help of chatserver"
"""The command is run in its own tests: the options are those that there are."""
HERE = "documents/test_pages.py::"
MASTER = "documents/test_master_service.py::"
MIGRATING = "documents/test_migrating.py::"
SIGNING = "outbox/test_signing.py::"
README = "documents/test_readme.py::"
CLIENT = "clients/test_*.py::test_what_the_readme_shows"
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
        "from chatserver.realtime.bus import Bus": f"{README}test_the_lines_for_the_bus_say_something",
    },
    "chatserver/realtime/redis_manager/README.md": {
        "from chatserver.realtime import RealtimeServer": f"{README}"
        "test_the_lines_for_several_nodes_make_a_server_that_is_joined",
    },
    "clients/js/README.md": {block.first: CLIENT for block in blocks("clients/js/README.md")},
    "docs/benchmarks.md": {block.first: BENCH for block in blocks("docs/benchmarks.md")},
    "docs/commands.md": {
        "chatserver demo": COMMANDS,
        "chatserver tail --conversation 6920306ab1f24f6f9a4c1d55 --user alice": COMMANDS,
        "09:30:00  alice           #12  Hello, Bob!": f"{README}test_tail_prints_what_is_shown",
        "chatserver load --users 200 --conversations 20 --rate 100 --seconds 30": COMMANDS,
        "ms        p50   p95    p99    max   count": f"{README}test_load_prints_what_is_shown",
    },
    "docs/design.md": {
        "   browsers, phones (Socket.IO)          Master Service (HTTP)": f"{HERE}"
        "test_the_drawing_has_the_packages_that_there_are",
    },
    "docs/master-service.md": {
        "# from examples/proxy-python/server.py": f"{HERE}test_the_excerpt_is_of_the_example",
        SECRETS: TRYOUT,
        "set -a && . ./secrets.env && node examples/proxy-node/server.mjs": TRYOUT,
        """curl -c jar -d '{"user": "alice", "password": "wonderland"}' http://127.0.0.1:8080/login""": (
            f"{MASTER}test_what_the_docs_say_to_try_works"
        ),
        'const chatToken = async () => (await fetch("/chat-token")).json();': (
            f"{MASTER}test_the_lines_for_browsers_connect"
        ),
    },
    "docs/migrating.md": {
        "# nodes.py": f"{MIGRATING}test_the_lines_for_several_nodes_are_a_server",
        "set -a && . ./secrets.env": f"{MIGRATING}test_an_old_chat_is_brought_and_nothing_is_doubled",
    },
    "docs/operations.md": {
        'mongodump --uri="$MONGO_URL" --oplog --gzip --archive=chat.gz': "faults/test_restore.py::"
        "test_a_restored_server_continues_from_its_backup",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318": f"{HERE}test_what_is_set_can_be_set",
    },
    "docs/performance.md": {block.first: BENCH for block in blocks("docs/performance.md")},
    "docs/protocol.md": {
        "// connect.mjs": f"{README}test_the_lines_of_the_protocol_connect_and_come_back",
        "{id, conversationId, seq, rev, senderId, content, attachments, replyTo, mentions, metadata,": (
            f"{HERE}test_shapes_have_the_keys_that_are_answered"
        ),
        "// follow.mjs": f"{README}test_whoever_follows_as_the_protocol_says_has_what_there_is",
        "{id, type: direct|group|channel, name, avatarUrl, metadata, createdBy, createdAt, updatedAt,": (
            f"{HERE}test_shapes_have_the_keys_that_are_answered"
        ),
    },
    "docs/webhooks.md": {
        "POST /hooks/chat HTTP/1.1": f"{HERE}test_a_webhook_has_the_headers_that_are_shown",
        "# with_chatserver.py": SIGNING,
        "# without_chatserver.py": SIGNING,
        "// verify.mjs": SIGNING,
        "// receiver.mjs": SIGNING,
        "# once.py": SIGNING,
        "chatserver webhooks status": COMMANDS,
    },
}


@pytest.mark.parametrize("page", sorted({str(path) for path in pages() if blocks(path)} | {*RUN}))
def test_each_block_says_what_runs_it(page: str) -> None:
    assert sorted(block.first for block in blocks(page)) == sorted(RUN.get(page, {}))


def run_by(runner: str) -> list[tuple[str, Block]]:
    return [
        (page, block(page, first))
        for page, table in RUN.items()
        for first, what in table.items()
        if what == runner
    ]


def test_a_test_that_is_to_run_a_block_reads_its_page() -> None:
    for page, table in RUN.items():
        for runner in {*table.values()} - {TRYOUT, BENCH, COMMANDS}:
            file, _, name = runner.partition("::")
            source = "\n".join(path.read_text() for path in (ROOT / "tests").glob(file))
            assert Path(page).name in source, runner
            assert re.search(rf"^(?:async )?def {name}", source, re.MULTILINE), runner


def test_tryout_follows_each_line() -> None:
    tried = {*re.findall(r"(?:line|begin|here|in|\\\n) +'(.+?)'", text(TRYOUT))}
    # What follows the others cannot follow itself; all of it is what CI does.
    tried |= {*re.findall(r"^\./scripts/\w+$", text(".ci/run"), re.MULTILINE)}
    # Docker is not had where tests run: operations/test_compose.py looks at all that it is given.
    tried.add("docker compose up --build")
    shown = [line for _, block in run_by(TRYOUT) for line in block.lines]
    assert len(shown) > 15
    assert not {*shown} - tried


# --- The command line ---------------------------------------------------------------------------


def shown_commands() -> Iterator[list[str]]:
    """Every `chatserver …` that a page shows, in a block or within a sentence."""
    for page in pages():
        said = text(page)
        inline = re.findall(r"`((?:\.venv/bin/)?chatserver [^`]+)`", said)
        lines = [
            line for block in blocks(page) if block.language in ("", "sh") for line in block.lines
        ]
        for line in [*inline, *lines]:
            if found := re.search(r"(?:^|/|\$\()chatserver ([^)|>]*)", line):
                yield found[1].split()


def test_every_command_that_is_shown_has_the_options_that_it_is_shown_with() -> None:
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


async def test_every_benchmark_that_is_shown_has_its_scenarios_and_options() -> None:
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


def test_what_is_set_can_be_set() -> None:
    known = {*re.findall(r"^#([A-Z_]+)=", text("config/example.env"), re.MULTILINE)}
    for page in ("docs/operations.md", "README.md", "docs/master-service.md"):
        for listing in blocks(page):
            for key in re.findall(r"^(?:.*&& )?([A-Z][A-Z_]+)=", listing.text, re.MULTILINE):
                assert key in known or key.startswith("OTEL_TRACES_SAMPLER") or key == "TOKEN", key


# --- What is no program -------------------------------------------------------------------------


def keys(shape: str) -> set[str]:
    """Of `{id, type: a|b, items: [{userId}]}`: those outside of any inner braces."""
    while (flat := re.sub(r"\[?\{[^{}]*\}\]?", "", shape[1:-1])) != shape[1:-1]:
        shape = f"{{{flat}}}"
    return {pair.split(":")[0].strip() for pair in shape.strip()[1:-1].split(",")}


def test_shapes_have_the_keys_that_are_answered() -> None:
    page = "docs/protocol.md"
    message, conversation = (block for block in blocks(page) if block.text.startswith("{id"))
    assert keys(message.text.strip()) == {
        field.data_key for field in MessageResponse().fields.values()
    }
    answered = {field.data_key for field in Conversation().fields.values()}
    assert keys(conversation.text.strip()) == answered - {"unreadCount"}


def test_a_webhook_has_the_headers_that_are_shown() -> None:
    shown = blocks("docs/webhooks.md")[0].text
    sent = text("chatserver/outbox/sinks/webhook.py") + text("chatserver/outbox/signing.py")
    names = re.findall(r"^([\w-]+): ", shown, re.MULTILINE)
    assert len(names) == 5
    assert all(f'"{name}"' in sent for name in names), names


def test_the_drawing_has_the_packages_that_there_are() -> None:
    drawn = re.findall(
        r"([\w/]+)/", block("docs/design.md", next(iter(RUN["docs/design.md"]))).text
    )
    assert len(drawn) == 7
    assert all((ROOT / "chatserver" / folder / "__init__.py").exists() for folder in drawn)


def test_the_excerpt_is_of_the_example() -> None:
    excerpt = block("docs/master-service.md", "# from examples/proxy-python/server.py").text
    example = text("examples/proxy-python/server.py")
    parts = excerpt.split("\n", 1)[1].strip().split("\n\n\n")
    assert len(parts) == 3
    assert all(f"\n{part}\n" in example for part in parts)


def test_the_figures_of_the_readme_are_those_of_the_docs() -> None:
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
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page.parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT)), link


def test_files_that_are_named_are_there() -> None:
    ends = {"/".join(path.parts[-n:]) for path in tree() for n in range(1, len(path.parts) + 1)}
    # Written where somebody begins, not here.
    ends |= {"secrets.env", "DATA_DIR/secrets.json", "config/webhooks.toml"}
    seen = {(page, name) for page in pages() for name in names(page)}
    assert len(seen) > 80
    assert not {(str(page), name) for page, name in seen if name not in ends}
