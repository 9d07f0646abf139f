"""Measures the cost of webhooks: the relay compared with a bare client, and the extra cost of a send."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

from .process import Process
from .run import Measured, Row, Run, Start
from .scenarios import MESSAGE_BYTES, SENDS_FIRST, seed_for_sends, warm

CONVERSATIONS = 500
PER_SECOND = 4
"""Waiting messages per conversation, for each second of a measurement."""
START_S = 60
DRAIN_S = 300

SETTINGS = {"delivered": "on", "recorded": "off", "no endpoint": ""}
"""WEBHOOK_RELAY of the server, by name. The others are compared with the last one."""


class Webhooks:
    """Compares the first server with itself under other settings, because the peer has no webhooks."""

    title = "webhooks: one event per message"

    def round(self, servers: Mapping[str, Start], seconds: float) -> Iterator[tuple[str, str, Row]]:
        start = next(iter(servers.values()))
        yield from _drain(start, seconds)
        for name, relay in SETTINGS.items():
            sys.stderr.write(f"{self.title}: {name}\n")
            with start(webhook_relay=relay) as run:
                for case, row in _send(run, seconds, delivered=name == "delivered"):
                    yield case, name, row


def _drain(start: Start, seconds: float) -> Iterator[tuple[str, str, Row]]:
    sys.stderr.write("webhooks: drain\n")
    with start(webhook_relay="off") as run:
        bodies = run.folder / "bodies"
        run.receive(bodies)
        run.seed(200, [[n % 200, (n + 1) % 200] for n in range(CONVERSATIONS)])
        each = max(1, round(PER_SECOND * seconds))
        warm(run, f"fill {each} 64 {MESSAGE_BYTES}")
        case, due = f"drain of {CONVERSATIONS * each:,}", run.due()
        with run.relay() as relay:
            yield case, "relay", _posts(run, relay, due)
        if left := run.due():
            raise SystemExit(f"{left} of {due} events are still due after all have arrived.")
        with run.bare(bodies) as bare:
            row = _posts(run, bare, due)
        del row["mongod µs"]  # it was idle
        yield case, "bare client", row


def _posts(run: Run, process: Process, events: int) -> Row:
    """Measures the events from the first to the last, and the CPU that `process` needs for them."""
    first = run.do(f"events 1 {START_S}").answer
    before = process.cpu_seconds()
    measured = run.do(f"events {events - first['events']} {DRAIN_S}")
    cpu = process.cpu_seconds() - before
    answer = measured.answer
    each = 1e6 / max(answer["events"], 1)
    return {
        "/s": answer["events"] / answer["seconds"],
        "posting µs": cpu * each,
        "mongod µs": measured.mongod * each,
        "bad": first["bad"] + answer["bad"],
    }


def _send(run: Run, seconds: float, *, delivered: bool) -> Iterator[tuple[str, Row]]:
    run.receive()
    seed_for_sends(run)
    warm(run, SENDS_FIRST)
    if delivered:
        _until_none_is_due(run)
        run.do("events 0 0")
    for case, phase in {
        "64 in flight": f"closed {seconds} 64",
        "256 in flight": f"closed {seconds} 256",
        "200/s open loop": f"open {seconds} 200",
    }.items():
        sent = run.do(f"{phase} {MESSAGE_BYTES}")
        row = _sent(sent)
        if delivered:
            # The relay delivers its backlog now. That is part of its cost.
            told = run.do(f"events {sent.answer['done']} {DRAIN_S}")
            each = 1e6 / max(sent.answer["done"], 1)
            row["posting µs"] = (sent.relay + told.relay) * each
            row["mongod µs"] += told.mongod * each
            row["bad"] += told.answer["bad"]
            if phase.startswith("open"):
                row["lag p50 ms"], row["lag p99 ms"] = told.answer["p50"], told.answer["p99"]
        yield case, row


def _sent(sent: Measured) -> Row:
    answer = sent.answer
    each = 1e6 / max(answer["done"], 1)
    return {
        "/s": answer["done_in_time"] / answer["seconds"],
        "server µs": sent.server * each,
        "mongod µs": sent.mongod * each,
        "ack p50 ms": answer["p50"],
        "ack p99 ms": answer["p99"],
        "bad": answer["bad"],
    }


def _until_none_is_due(run: Run) -> None:
    end = time.monotonic() + DRAIN_S
    while run.due():
        if time.monotonic() > end:
            raise SystemExit("The events of the warm-up were not delivered.")
        time.sleep(0.2)
