"""Writes config/grafana/chatserver.json, the Grafana dashboard, from the rows below.

`--check`: writes nothing, and fails if the file differs from the rows.
"""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "config" / "grafana" / "chatserver.json"
WHERE = 'job=~"$job",instance=~"$instance"'
"""The text that replaces % in an expression."""
WIDTH = 24
LOW, HIGH = 4, 8

Query = tuple[str, str]
"""An expression and its legend."""


def quantiles(metric: str, by: str = "", also: str = "") -> list[Query]:
    labels = f"le, {by}" if by else "le"
    rate = f"sum by ({labels}) (rate({metric}_bucket{{%{also}}}[$__rate_interval]))"
    name = f" {{{{{by}}}}}" if by else ""
    return [(f"histogram_quantile({q}, {rate})", f"p{round(q * 100)}{name}") for q in (0.5, 0.99)]


def rate(metric: str, by: str, also: str = "") -> Query:
    names = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return f"sum by ({by}) (rate({metric}{{%{also}}}[$__rate_interval]))", names


def only(query: Query) -> Query:
    """Hides lines that are at 0."""
    return f"{query[0]} > 0", query[1]


ROWS: list[tuple[str, list[tuple[str, str, str, list[Query]]]]] = [
    # The title of the row; then for each panel: kind, title, unit, queries.
    (
        "Overview",
        [
            ("stat", "Nodes up", "short", [("sum(up{%})", "")]),
            ("stat", "Connections", "short", [("sum(chat_connections{%})", "")]),
            ("stat", "Users connected", "short", [("sum(chat_users{%})", "")]),
            (
                "stat",
                "Messages per second",
                "short",
                [
                    (
                        'sum(rate(chat_requests_total{%,code="OK",name=~"message:send|POST .*/messages"}'
                        "[$__rate_interval]))",
                        "",
                    )
                ],
            ),
            (
                "stat",
                "Share of failures",
                "percentunit",
                [
                    (
                        '(sum(rate(chat_requests_total{%,code=~"INTERNAL|UNAVAILABLE"}[$__rate_interval])) or vector(0))'
                        " / sum(rate(chat_requests_total{%}[$__rate_interval]))",
                        "",
                    )
                ],
            ),
            (
                "stat",
                "Oldest waiting webhook",
                "s",
                [("max(chat_webhook_oldest_seconds{%})", "")],
            ),
            (
                "graph",
                "Events and requests",
                "reqps",
                [rate("chat_requests_total", "door, name", ',code="OK"')],
            ),
            (
                "graph",
                "Refused and failed",
                "reqps",
                [only(rate("chat_requests_total", "code, name", ',code!="OK"'))],
            ),
            (
                "graph",
                "Acknowledgement of a message",
                "s",
                quantiles("chat_request_duration_seconds", also=',name="message:send"'),
            ),
            (
                "graph",
                "REST responses",
                "s",
                quantiles("chat_request_duration_seconds", also=',door="rest"'),
            ),
        ],
    ),
    (
        "Log",
        [
            (
                "graph",
                "Changes committed",
                "ops",
                [
                    (
                        "sum by (kind) (rate(chat_log_batch_changes_sum{%}[$__rate_interval]))",
                        "{{kind}}",
                    )
                ],
            ),
            (
                "graph",
                "Changes in a batch",
                "short",
                [
                    (
                        "sum by (kind) (rate(chat_log_batch_changes_sum{%}[$__rate_interval]))"
                        " / sum by (kind) (rate(chat_log_batch_changes_count{%}[$__rate_interval]))",
                        "{{kind}}",
                    )
                ],
            ),
            ("graph", "Commit of a batch", "s", quantiles("chat_log_commit_seconds", "kind")),
            (
                "graph",
                "Waiting",
                "short",
                [
                    ("sum by (kind) (chat_log_batches_in_flight{%})", "{{kind}} in flight"),
                    ("sum(chat_log_conversations_ready{%})", "conversations ready"),
                    ("sum(chat_log_conversations_unsure{%})", "conversations unsure"),
                    ("sum(chat_mongo_operations_unfinished{%})", "operations of MongoDB"),
                ],
            ),
            (
                "graph",
                "Operations of MongoDB",
                "s",
                quantiles("chat_mongo_operation_seconds", "operation"),
            ),
            (
                "graph",
                "MongoDB failures, races lost",
                "ops",
                [
                    rate("chat_mongo_operation_failures_total", "operation, code"),
                    ("sum(rate(chat_log_races_lost_total{%}[$__rate_interval]))", "races lost"),
                ],
            ),
        ],
    ),
    (
        "Delivery",
        [
            (
                "graph",
                "Connections",
                "short",
                [
                    (
                        "sum by (instance, transport) (chat_connections{%})",
                        "{{instance}} {{transport}}",
                    )
                ],
            ),
            (
                "graph",
                "Users and rooms",
                "short",
                [
                    ("sum by (instance) (chat_users{%})", "{{instance}} users"),
                    ("sum by (instance) (chat_rooms{%})", "{{instance}} rooms"),
                ],
            ),
            ("graph", "From the commit to the sockets", "s", quantiles("chat_delivery_seconds")),
            (
                "graph",
                "Writes to sockets",
                "wps",
                [
                    (
                        "sum by (instance) (rate(chat_delivery_seconds_count{%}[$__rate_interval]))",
                        "{{instance}}",
                    )
                ],
            ),
            ("graph", "Closed", "short", [rate("chat_connections_closed_total", "reason")]),
            (
                "graph",
                "Dropped for slow clients",
                "ops",
                [rate("chat_fleeting_dropped_total", "instance")],
            ),
        ],
    ),
    (
        "Background jobs",
        [
            (
                "graph",
                "Not done",
                "short",
                [
                    ("max by (kind) (chat_jobs_unfinished{%})", "{{kind}}"),
                    ("max by (kind) (chat_jobs_failing{%})", "{{kind}} failing"),
                ],
            ),
            ("graph", "Items", "ops", [rate("chat_jobs_items_total", "kind")]),
            ("graph", "Steps", "ops", [rate("chat_jobs_steps_total", "kind, outcome")]),
            ("graph", "Duration of a step", "s", quantiles("chat_jobs_step_seconds", "kind")),
        ],
    ),
    (
        "Webhooks",
        [
            (
                "graph",
                "Attempts",
                "ops",
                [rate("chat_webhook_deliveries_total", "endpoint, outcome")],
            ),
            (
                "graph",
                "From the change to its delivery",
                "s",
                quantiles("chat_webhook_delay_seconds", "endpoint"),
            ),
            (
                "graph",
                "Duration of an attempt",
                "s",
                quantiles("chat_webhook_attempt_seconds", "endpoint"),
            ),
            (
                "graph",
                "Waiting",
                "short",
                [
                    ("max by (endpoint) (chat_webhook_pending{%})", "{{endpoint}} pending"),
                    ("sum by (endpoint) (chat_webhook_in_flight{%})", "{{endpoint}} in flight"),
                    ("max by (endpoint) (chat_webhook_dead{%})", "{{endpoint}} dead"),
                ],
            ),
            (
                "graph",
                "Age of the oldest",
                "s",
                [("max by (endpoint) (chat_webhook_oldest_seconds{%})", "{{endpoint}}")],
            ),
            (
                "graph",
                "Relays",
                "short",
                [
                    ("chat_webhook_relay_ready{%}", "{{instance}} ready"),
                    ("chat_webhook_relay_partitions{%}", "{{instance}} share, 16ths"),
                ],
            ),
        ],
    ),
    (
        "Bus",
        [
            (
                "graph",
                "Bus up",
                "short",
                [
                    ("chat_bus_up{%}", "{{instance}} {{worker}}"),
                    ("chat_catching_up{%}", "{{instance}} {{worker}} catching up"),
                ],
            ),
            ("graph", "Round trip", "s", quantiles("chat_bus_round_trip_seconds", "instance")),
            (
                "graph",
                "Messages",
                "ops",
                [
                    (
                        "sum by (instance) (rate(chat_bus_published_total{%}[$__rate_interval]))",
                        "{{instance}} published",
                    ),
                    (
                        "sum by (instance) (rate(chat_bus_heard_total{%}[$__rate_interval]))",
                        "{{instance}} received",
                    ),
                ],
            ),
            (
                "graph",
                "Trouble",
                "short",
                [
                    (
                        "sum by (instance) (increase(chat_bus_dropped_total{%}[$__rate_interval]))",
                        "{{instance}} lost",
                    ),
                    (
                        "sum by (instance) (increase(chat_bus_reconnects_total{%}[$__rate_interval]))",
                        "{{instance}} reconnects",
                    ),
                    (
                        "sum by (instance) (increase(chat_bus_unknown_total{%}[$__rate_interval]))",
                        "{{instance}} unknown",
                    ),
                ],
            ),
            (
                "graph",
                "Subscribed channels",
                "short",
                [("sum by (instance) (chat_bus_channels{%})", "{{instance}}")],
            ),
            (
                "graph",
                "Read from MongoDB after a missed message",
                "short",
                [
                    (
                        "sum by (instance) (rate(chat_room_readings_total{%}[$__rate_interval]))",
                        "{{instance}} reads per second",
                    ),
                    ("sum by (instance) (chat_rooms_lacking{%})", "{{instance}} rooms that wait"),
                ],
            ),
        ],
    ),
    (
        "Nodes",
        [
            (
                "graph",
                "Nodes, as each sees them",
                "short",
                [("chat_nodes{%}", "{{instance}} {{worker}}")],
            ),
            (
                "graph",
                "Leases",
                "s",
                [
                    ("chat_node_lease_age_seconds{%}", "{{instance}} {{worker}} age"),
                    (
                        "increase(chat_node_leases_lost_total{%}[$__rate_interval])",
                        "{{instance}} {{worker}} lost",
                    ),
                ],
            ),
            (
                "graph",
                "Event loop lag",
                "s",
                quantiles("chat_loop_lag_seconds", "instance"),
            ),
            (
                "graph",
                "CPU, as a share of one core",
                "percentunit",
                [
                    (
                        "rate(process_cpu_seconds_total{%}[$__rate_interval])",
                        "{{instance}} {{worker}}",
                    ),
                    (
                        "rate(chat_webhook_relay_process_cpu_seconds_total{%}[$__rate_interval])",
                        "{{instance}} relay",
                    ),
                ],
            ),
            (
                "graph",
                "Memory",
                "bytes",
                [
                    ("process_resident_memory_bytes{%}", "{{instance}} {{worker}}"),
                    ("chat_webhook_relay_process_resident_memory_bytes{%}", "{{instance}} relay"),
                ],
            ),
            (
                "graph",
                "Entries in memory",
                "short",
                [("sum by (instance, store) (chat_memory_entries{%})", "{{instance}} {{store}}")],
            ),
            (
                "graph",
                "Entries in memory, as a share of their bound",
                "percentunit",
                [("max by (store) (chat_memory_entries{%} / chat_memory_bound{%})", "{{store}}")],
            ),
            (
                "graph",
                "Tasks of the event loop",
                "short",
                [
                    ("chat_tasks{%}", "{{instance}} {{worker}}"),
                    ("chat_webhook_relay_tasks{%}", "{{instance}} relay"),
                ],
            ),
            (
                "graph",
                "Open files, as a share of the limit",
                "percentunit",
                [("process_open_fds{%} / process_max_fds{%}", "{{instance}} {{worker}}")],
            ),
            (
                "graph",
                "Versions",
                "short",
                [("count by (version) (chat_build_info{%})", "{{version}}")],
            ),
        ],
    ),
]


def panel(number: int, kind: str, title: str, unit: str, queries: list[Query]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    made: dict[str, Any] = {
        "id": number,
        "type": "stat" if kind == "stat" else "timeseries",
        "title": title,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": source,
                "expr": expression.replace("%", WHERE),
                "legendFormat": legend or "__auto",
            }
            for at, (expression, legend) in enumerate(queries)
        ],
    }
    if kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    else:
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return made


def dashboard() -> dict[str, Any]:
    numbers = count(1)
    panels: list[dict[str, Any]] = []
    x = y = height = 0
    for title, of_row in ROWS:
        y, x = y + height, 0
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        panels.append(
            {
                "id": next(numbers),
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
            }
            | {"panels": []}
        )
        y, height = y + 1, 0
        for kind, *rest in of_row:
            width, tall = (4, LOW) if kind == "stat" else (12, HIGH)
            if x + width > WIDTH:
                y, x = y + height, 0
            height = tall
            made = panel(next(numbers), kind, *rest)
            panels.append(made | {"gridPos": {"h": tall, "w": width, "x": x, "y": y}})
            x += width
    return {
        "title": "Chat server",
        "uid": "chatserver",
        "tags": ["chatserver"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [source(), variable("job", "Installation"), variable("instance", "Node")]
        },
        "panels": panels,
    }


def source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def variable(label: str, title: str) -> dict[str, Any]:
    where = "" if label == "job" else '{job=~"$job"}'
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": f"label_values(chat_build_info{where}, {label})", "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def main() -> int:
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" in sys.argv:
        if FILE.exists() and FILE.read_text() == text:
            return 0
        print(f"{FILE.name} is outdated: run scripts/dashboard.py.", file=sys.stderr)
        return 1
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
