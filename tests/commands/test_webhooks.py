"""`chatserver webhooks`: the admin API from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import run
from tests.support.endpoints_without_relay import Opener, talk_of
from tests.support.servers import INTERNAL_SECRET, ChatServer, free_port


async def test_status_dead_and_replay(idle_outbox: Opener, crm: dict[str, str]) -> None:
    outbox = await idle_outbox(**crm)
    _, talk, said = await talk_of(outbox, "One", "Two")
    held = (await outbox.pending("default"))[0]
    await outbox.back_off("default", held, "answered [bold]503")
    ran = await outbox.run("status")
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["endpoint", "url", "pending", "oldest", "failing", "dead"]
    assert (lines[1][0], lines[1][2], lines[1][-2:]) == ("default", "3", ["1", "0"])
    assert (lines[2][0], lines[2][2]) == ("crm", "2")
    assert talk["id"] in ran.out
    assert "answered [bold]503" in ran.out
    assert ran.out.splitlines()[-1] == "Running relays: none"
    for secret in ("the-password", "the-key", INTERNAL_SECRET):
        assert secret not in ran.out
    assert json.loads((await outbox.run("status", "--json")).out)["countedUpTo"] == 100_000

    gone = await outbox.give_up("crm", "message.created")
    ran = await outbox.run("dead", "--limit", "1")
    assert "There are more" in ran.out
    ran = await outbox.run("dead", "--endpoint", "crm", "--type", "message.created")
    assert [line.split()[0] for line in ran.out.splitlines()[1:]] == gone[::-1]
    found = json.loads((await outbox.run("dead", "--conversation", talk["id"], "--json")).out)
    assert [item["id"] for item in found["items"]] == gone[::-1]
    assert (await outbox.run("dead", "--conversation", "x")).out == "There are no dead letters.\n"

    ran = await outbox.run(
        "replay", "--id", gone[0], "--id", gone[1], "--dead", "--endpoint", "crm"
    )
    assert (ran.code, ran.out) == (0, "2 events will be sent again.\n")
    assert await outbox.due("crm") == gone
    await outbox.deliver("crm")
    ran = await outbox.run("replay", "--since", "1h", "--type", "message.created", "--json")
    assert json.loads(ran.out) == {"replayed": 2, "gone": 0}
    assert await outbox.due("crm") == [f"evt_{message['id']}" for message in said]


async def test_refusals_are_printed(idle_outbox: Opener, crm: dict[str, str]) -> None:
    outbox = await idle_outbox(**crm)
    for words, code, says in (
        (["replay"], 2, "Select the events"),
        (["replay", "--endpoint", "crm"], 2, "Select the events"),
        (["replay", "--since", "soon"], 2, "--since: 'soon' is neither"),
        (["replay", "--since", "2026-21-11"], 2, "since: Must be a time such as"),
        (["replay", "--type", "x"], 2, "type: Must be one of message.created"),
        (["replay", "--id", "evt_1"], 1, "No such event"),
        (["replay", "--dead", "--endpoint", "x"], 2, "endpoint: Not a configured endpoint."),
        (["forget", "crm"], 1, "This endpoint is still configured"),
        (["forget", "nobody"], 1, "Nothing is stored for an endpoint of this name."),
        (["forget", "a/b"], 2, "endpoint: "),
        (["dead", "--endpoint", "A"], 2, "endpoint: "),
    ):
        ran = await outbox.run(*words)
        assert (ran.code, ran.out) == (code, ""), words
        assert says in ran.err, words


async def test_forget(idle_outbox: Opener, crm: dict[str, str]) -> None:
    outbox = await idle_outbox(**crm)
    await talk_of(outbox, "One", "Two")
    await outbox.server.stop()
    outbox = await idle_outbox()
    ran = await outbox.run("status")
    assert "(not configured)" in ran.out
    ran = await outbox.run("forget", "crm")
    assert ran.out == "crm: dropped 2 pending events, back-offs and dead letters.\n"
    assert "crm" not in (await outbox.run("status")).out


async def test_an_unreachable_or_foreign_server_is_reported(
    server: ChatServer, mongo_url: str, tmp_path: Path
) -> None:
    port = free_port()
    ran = await run("webhooks", "status", PORT=str(port), DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert ran.err.startswith(f"No chatserver answers at http://127.0.0.1:{port}: ")
    ran = await run("webhooks", "status", "--server", server.rest, DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert "does not accept this INTERNAL_API_SECRET" in ran.err
    database = mongo_url.partition("/?")[0].replace("mongodb", "http")
    ran = await run("webhooks", "status", "--server", database, DATA_DIR=str(tmp_path))
    assert ran.code == 1
    assert "is not a chatserver of this version" in ran.err
    ran = await run("webhooks", "status", "--server", "nonsense", DATA_DIR=str(tmp_path))
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
