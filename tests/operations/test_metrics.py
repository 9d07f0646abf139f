"""Metrics: all are documented, Prometheus accepts them, and alerts and dashboard use existing ones."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from tests.support.exposition import families, samples, scrape, stores
from tests.support.patience import PATIENCE_S
from tests.support.people import People
from tests.support.receiver import Receiver
from tests.support.servers import ROOT, ChatServer, chat_server, free_port

PROMETHEUS = ROOT / "config" / "prometheus"
DASHBOARD = json.loads((ROOT / "config" / "grafana" / "chatserver.json").read_text())
NAME = re.compile(r"\b(?:chat|process)_\w+")
DOCUMENTED = re.compile(r"`(\w+)(?:\{([\w,]+)\})?`")
FILLED = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}


@dataclass
class Watched:
    server: ChatServer
    text: str
    """The exposition after some people had talked."""

    @property
    def names(self) -> set[str]:
        return set(families(self.text))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def watched(
    mongo_url: str, redis_url: str, worker: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    database = f"watched-{worker}-{time.monotonic_ns()}"
    async with (
        Receiver() as receiver,
        aiohttp.ClientSession() as session,
        chat_server(
            mongo_url, database, folder / "log", REDIS_URL=redis_url, WEBHOOK_URL=receiver.url
        ) as server,
    ):
        people = People(server, session)
        alice, bob, carol = people("alice", "bob", "carol")
        talk = await alice.group(bob, carol, name="Lunch")
        desk, phone = await alice.connect("websocket"), await bob.connect("polling")
        sent = await desk.say(talk, "At noon?")
        await phone.hears("message:new")
        await phone.do("reaction:add", {"messageId": sent["id"], "emoji": "👍"})
        await desk.do("message:edit", {"messageId": sent["id"], "content": "At one?"})
        await desk.refused("message:send", {"conversationId": talk["id"], "content": ""})
        gone = await carol.connect("websocket")
        await gone.close()
        await receiver.until(lambda: len(receiver.events) >= 5)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                text = await scrape(server)
                now = samples(text)
                delivered = now.get("chat_webhook_deliveries_total default delivered", 0)
                waiting = now.get("chat_webhook_pending default", -1)
                if delivered >= 5 and waiting == 0 and now["chat_bus_round_trip_seconds_count"] > 1:
                    break
                await asyncio.sleep(0.1)
        yield Watched(server, text)
        await people.go_home()


def expressions() -> Iterator[str]:
    """Yields the expressions of the alerts and of the dashboard."""
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    yield from queries()


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in FILLED.items():
                expression = expression.replace(variable, value)
            yield expression


def promtool(*words: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *words], input=said, capture_output=True, text=True, timeout=60, check=False
    )


async def test_exactly_the_exposed_families_are_documented_with_their_labels(
    watched: Watched,
) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("\n## Watch\n") : page.index("\n### The alerts\n")]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = [found for cell in cells for found in DOCUMENTED.findall(cell)]
    labels = {name: set(filter(None, of.split(","))) for name, of in documented}
    assert len(documented) == len(labels), "none is documented twice"
    assert set(labels) == watched.names
    for name, family in families(watched.text).items():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels[name], name


async def test_exactly_the_stores_in_memory_are_documented_with_their_bounds(
    watched: Watched,
) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    section = page[page.index("\n### Memory\n") : page.index("\n### Logs\n")]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = {name: row[2].strip() for row in rows for name in re.findall("`([^`]+)`", row[1])}
    of_server, of_relay = stores(watched.text), stores(watched.text, "chat_webhook_relay")
    assert {*documented} == {*of_server[0], *of_relay[0]}
    bounds = {store: f"{bound:,.0f}" for store, bound in (of_server[1] | of_relay[1]).items()}
    # It depends on the sink.
    del bounds["default: at work"]
    numbers = {store: words for store, words in documented.items() if words[-3:].isdecimal()}
    assert numbers == bounds


async def test_prometheus_accepts_names_types_and_units(
    watched: Watched,
) -> None:
    checked = promtool("check", "metrics", said=watched.text)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    for name, family in families(watched.text).items():
        assert (family.type == "counter") == name.endswith("_total"), name
        assert family.documentation, name


async def test_the_metrics_count_what_was_done(watched: Watched) -> None:
    now = samples(watched.text)
    for name, value in {
        "chat_connections polling": 1,
        "chat_connections websocket": 1,
        "chat_connections_closed_total transport close": 1,
        # Starts at 0, so that the first one is an increase.
        "chat_connections_closed_total too slow": 0,
        "chat_requests_total INTERNAL socket message:send": 0,
        "chat_requests_total INTERNAL rest POST /api/conversations": 0,
        "chat_requests_total INTERNAL internal POST /api/users/sync": 0,
        "chat_users": 2,
        "chat_rooms": 1,
        "chat_rooms_lacking": 0,
        "chat_nodes": 1,
        "chat_node_leases_lost_total": 0,
        "chat_bus_up": 1,
        "chat_log_batch_changes_count sends": 1,
        "chat_log_batch_changes_sum sends": 1,
        "chat_log_batch_changes_count changes": 2,
        "chat_log_commit_seconds_count changes": 2,
        "chat_log_batches_in_flight sends": 0,
        "chat_log_conversations_ready": 0,
        "chat_webhook_pending default": 0,
        "chat_webhook_relay_ready": 1,
        "chat_webhook_relay_partitions": 16,
    }.items():
        assert now[name] == value, name
    assert now["chat_webhook_delay_seconds_count default"] >= 5
    # Rough bounds, even for a quiet server on a busy machine: this checks the units.
    for name in ("chat_delivery_seconds", "chat_bus_round_trip_seconds", "chat_loop_lag_seconds"):
        assert 0 < now[f"{name}_sum"] / now[f"{name}_count"] < 0.5, name
    assert 0 <= now["chat_node_lease_age_seconds"] < 12
    for operation in ("find", "insert_many", "insert_one", "update_one", "transaction"):
        assert now[f"chat_mongo_operation_seconds_count {operation}"] >= 1, operation
    assert 10e6 < now["process_resident_memory_bytes"] < 10e9
    assert 10e6 < now["chat_webhook_relay_process_resident_memory_bytes"] < 10e9


async def test_alerts_and_dashboard_use_existing_metrics(watched: Watched) -> None:
    known = set()
    for name, family in families(watched.text).items():
        ends = ("_bucket", "_count", "_sum") if family.type == "histogram" else ("",)
        known.update(name + end for end in ends)
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert used - known == set()
    assert len(used) > 30
    # Conversely, the alerts and the dashboard use every metric, except those of the process and the relay.
    seen = {re.sub("_(bucket|count|sum)$", "", name) for name in used}
    of_the_system = {name for name in watched.names if re.search("process_|relay_", name)}
    assert watched.names - of_the_system <= seen


def test_promtool_accepts_the_shipped_files() -> None:
    for words in (
        ("check", "config", str(PROMETHEUS / "prometheus.yml")),
        ("check", "rules", str(PROMETHEUS / "alerts.yml")),
        ("test", "rules", str(ROOT / "tests" / "operations" / "alerts.test.yml")),
    ):
        checked = promtool(*words)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_starts_stops_and_is_explained() -> None:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    severity = {
        rule["alert"]: rule["labels"]["severity"] for group in groups for rule in group["rules"]
    }
    seen: dict[str, list[bool]] = {name: [] for name in severity}
    for test in yaml.safe_load((ROOT / "tests" / "operations" / "alerts.test.yml").read_text())[
        "tests"
    ]:
        for look in test["alert_rule_test"]:
            seen[look["alertname"]].append(bool(look.get("exp_alerts")))
    # Quiet before, then an alert, then quiet again.
    assert [name for name, looks in seen.items() if looks != [False, True, False]] == []
    page = (ROOT / "docs" / "operations.md").read_text()
    told = re.findall(r"^\| `(Chat\w+)` \((\w+)\) \|[^|]+\|[^|]+\|$", page, re.MULTILINE)
    assert dict(told) == severity
    assert len(told) == len(severity)


def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": query} for n, query in enumerate(queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


def test_the_dashboard_is_as_its_script_writes_it() -> None:
    subprocess.run(["python3", str(ROOT / "scripts" / "dashboard.py"), "--check"], check=True)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)), "no panel covers another"
    assert max(x for x, _ in places) < 24
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert titles == [
        "Overview",
        "Log",
        "Delivery",
        "Background jobs",
        "Webhooks",
        "Bus",
        "Nodes",
    ]
    variables = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "job", "instance"]


async def test_a_real_prometheus_scrapes_the_server_and_fills_the_dashboard(
    watched: Watched, tmp_path: Path
) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
    config["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{watched.server.port}"]}
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        prometheus = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http, asyncio.timeout(60):

            async def ask(query: str) -> list[Any]:
                async with http.get("/api/v1/query", params={"query": query}) as answer:
                    said = await answer.json()
                assert said["status"] == "success", (query, said)
                return said["data"]["result"]

            while True:
                assert prometheus.returncode is None, (tmp_path / "log").read_text()
                try:
                    scraped = await ask('count_over_time(up{job="chatserver"}[1m])')
                except aiohttp.ClientError:
                    scraped = []
                if scraped and float(scraped[0]["value"][1]) >= 3:
                    break
                await asyncio.sleep(0.2)
            assert (await ask("up"))[0]["value"][1] == "1"
            empty = [query for query in queries() if not await ask(query)]
            # Nothing has failed, and nothing was too slow.
            assert [
                expression for expression in empty if not re.search("failures|> 0$", expression)
            ] == []
            async with http.get("/api/v1/rules") as answer:
                rules = (await answer.json())["data"]["groups"][0]["rules"]
            assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
            assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
    finally:
        prometheus.terminate()
        await prometheus.wait()
