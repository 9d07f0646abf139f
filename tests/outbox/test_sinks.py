"""A sink that takes batches: order, one bad event, failures of a whole batch, hanging, and closing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from chatserver.chat.message import entry_id
from chatserver.clock import now
from chatserver.outbox.endpoints import Routes
from chatserver.outbox.event import Event, event_id
from chatserver.outbox.relay import deliveries
from chatserver.outbox.relay.batches import Batches
from chatserver.outbox.relay.deliveries import Retry
from chatserver.outbox.relay.key_queue import KeyQueue
from chatserver.outbox.sinks.sink import Delivery
from tests.conftest import Starter
from tests.support.batch_sink import DELIVERED, ENDPOINT, BatchSink, Opener, Outlet
from tests.support.ledger import ledger_of
from tests.support.patience import slowness
from tests.support.people import People
from tests.support.servers import ChatServer

KEYS = [f"c{number}" for number in range(30)]
BUSY = Delivery("failed", "is busy")
REFUSED = Delivery("gone", "does not want it")


async def slow() -> None:
    await asyncio.sleep(0.02)


async def hang() -> None:
    await asyncio.Event().wait()


async def test_events_of_many_keys_share_batches_and_each_key_is_in_order(outlet: Opener) -> None:
    out = await outlet(concurrency=2, work=slow)
    await out.record(KEYS, 10)
    out.run()
    await out.settled()
    assert out.sink.taken == out.recorded
    assert 30 <= len(out.sink.calls) < 100, "300 events, at most 10 in a batch"
    assert await out.counted() == {"delivered": 300, "failed": 0, "dead": 0}


async def test_a_lone_event_does_not_wait_for_a_batch(outlet: Opener) -> None:
    out = await outlet(max_batch=100)
    out.run()
    await out.record(["c0"])
    await out.settled()
    took = []
    for number in range(1, 6):
        began = time.monotonic()
        await out.record(["c0"])
        await out.until(lambda number=number: len(out.sink.calls) > number)
        took.append(time.monotonic() - began)
    assert min(took) < 0.1 * slowness()


async def test_a_sink_that_keeps_order_gets_successive_events_of_a_key(outlet: Opener) -> None:
    out = await outlet(keeps_order=True, max_batch=50, work=slow)
    await out.record(["hot"], 200)
    await out.record(KEYS, 5)
    out.run()
    await out.settled()
    assert out.sink.taken == out.recorded
    assert max(Counter(event.key for event in call)["hot"] for call in out.sink.calls) == 50
    assert len(out.sink.calls) < 30, "350 events, at most 50 in a batch"


async def all_but(out: Outlet, bad: str, why: str) -> None:
    """Every event is delivered, in order, except one of the key c0, which is given up."""
    await out.settled()
    assert await out.dead_letters() == {bad: why}
    out.recorded["c0"].remove(bad)
    assert out.sink.taken == out.recorded


async def test_one_bad_event_does_not_fail_its_neighbours(outlet: Opener) -> None:
    out = await outlet(keeps_order=True, max_batch=100)
    await out.record(["c0", "c1"], 10)
    bad = out.recorded["c0"][4]
    out.sink.answer = lambda event: REFUSED if event.id == bad else DELIVERED
    out.run()
    await all_but(out, bad, "does not want it")
    assert await out.counted() == {"delivered": 19, "failed": 1, "dead": 1}


async def test_an_event_that_fails_holds_up_only_its_key(outlet: Opener) -> None:
    out = await outlet(max_batch=100)
    await out.record(KEYS, 3)
    stuck = out.recorded["c0"][0]
    out.sink.answer = lambda event: BUSY if event.id == stuck else DELIVERED
    out.run()
    await out.left(out.recorded["c0"])
    assert out.sink.taken == {key: out.recorded[key] for key in KEYS[1:]}
    out.sink.answer = lambda event: DELIVERED
    await out.settled()
    assert out.sink.taken == out.recorded


@pytest.mark.parametrize("honest", [True, False])
async def test_events_of_a_key_behind_one_that_fails_come_after_it(
    outlet: Opener, honest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the sink claims that they were delivered: a repeat is better than a wrong order."""
    if not honest:

        def careless(sink: BatchSink, events: list[Event]) -> list[Delivery]:
            answers = [sink.answer(event) for event in events]
            for event, answer in zip(events, answers, strict=True):
                if answer is DELIVERED:
                    sink.taken[event.key].append(event.id)
            return answers

        monkeypatch.setattr(BatchSink, "_answers", careless)
    out = await outlet(keeps_order=True)
    await out.record(["c0"], 10)
    ids = out.recorded["c0"]
    out.sink.answer = lambda event: (
        BUSY if event.id == ids[3] and len(out.sink.calls) < 3 else DELIVERED
    )
    out.run()
    await out.settled()
    assert [[event.id for event in call] for call in out.sink.calls] == [ids, ids[3:], ids[3:]]
    too_early = [] if honest else [*ids[4:], *ids[4:]]
    assert out.sink.taken["c0"] == [*ids[:3], *too_early, *ids[3:]]
    assert await out.dead_letters() == {}


async def test_an_event_given_up_for_its_age_takes_no_other_with_it(outlet: Opener) -> None:
    """Those behind it in the batch were not sent, so they have not failed."""
    out = await outlet(keeps_order=True, retry=Retry(give_up_s=0.0))
    await out.record(["c0"], 10)
    bad = out.recorded["c0"][3]
    out.sink.answer = lambda event: BUSY if event.id == bad else DELIVERED
    out.run()
    await all_but(out, bad, "is busy")


async def test_a_bad_record_is_given_up_between_its_neighbours(outlet: Opener) -> None:
    out = await outlet(keeps_order=True)
    await out.record(["c0"], 5)
    bad = out.recorded["c0"].pop(2)
    # Only possible by hand, in the database's shell.
    await out.mongo.outbox.update_one({"_id": bad.removeprefix("evt_")}, {"$unset": {"data": 1}})
    out.run()
    await out.settled()
    assert await out.dead_letters() == {bad: "The record cannot be read."}
    assert out.sink.taken == out.recorded


async def test_an_event_of_a_newer_version_waits_for_a_relay_of_that_version(
    outlet: Opener,
) -> None:
    out = await outlet(keeps_order=True)
    record_id = entry_id("c0", 1)
    due = Routes([ENDPOINT]).slots("message.created", "c0")
    entry = {"_id": record_id, "kind": "pin", "conversationId": "c0", "at": now(), "due": due}
    await out.mongo.log.insert_one({**entry, "userId": "alice"})
    await out.record(KEYS, 3)
    out.run()
    await out.left(out.recorded["c0"])
    (reason,) = await out.all_back_off(["c0"])
    assert reason == "this relay does not know events of the kind pin: upgrade it"
    # As if the kind were known.
    await out.mongo.log.update_one({"_id": record_id}, {"$set": {"kind": "end"}})
    await out.settled()
    out.recorded["c0"].insert(0, event_id(record_id))
    assert out.sink.taken == out.recorded
    assert await out.dead_letters() == {}


@pytest.mark.parametrize("keeps_order", [False, True])
async def test_a_batch_that_fails_wholly_is_delivered_later_and_recorded_once(
    outlet: Opener, keeps_order: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = await outlet(keeps_order=keeps_order, max_batch=100)

    async def break_down() -> None:
        await slow()
        raise ConnectionError(f"no broker at {ENDPOINT.url}")

    out.sink.work = break_down
    await out.record(KEYS, 4)
    out.run()
    assert set(await out.all_back_off(KEYS)) == {"request failed: ConnectionError"}
    assert out.sink.taken == {}
    assert max(map(len, out.sink.calls)) > 1
    assert len(await out.due()) == 120
    out.sink.work = None
    await out.settled()
    assert out.sink.taken == out.recorded
    counted = await out.counted()
    assert counted["failed"] >= 30
    assert (counted["delivered"], counted["dead"]) == (120, 0)
    logged = capsys.readouterr().out
    assert "a sink failed" in logged
    assert "the-password" not in logged


async def test_too_few_results_fail_the_whole_batch(
    outlet: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an event could be taken for delivered because of its neighbour's result."""
    out = await outlet(keeps_order=True)
    with monkeypatch.context() as patched:
        patched.setattr(BatchSink, "_answers", lambda sink, events: [DELIVERED] * 3)
        await out.record(["c0"], 4)
        out.run()
        await out.until(lambda: len(out.sink.calls) >= 2)
        assert len(await out.due()) == 4
    await out.settled()
    assert out.sink.taken == out.recorded


async def test_a_call_that_hangs_ends_at_the_limit(outlet: Opener) -> None:
    out = await outlet(limit_s=0.3, max_batch=100, work=hang)
    await out.record(KEYS, 2)
    out.run()
    assert set(await out.all_back_off(KEYS)) == {"did not answer within 0.3 s"}
    out.sink.work = None
    await out.settled()
    assert out.sink.taken == out.recorded


async def test_a_stop_waits_for_what_the_sink_has_and_then_closes_it(outlet: Opener) -> None:
    out = await outlet(keeps_order=True, max_batch=20)
    flushed = asyncio.Event()
    out.sink.work = flushed.wait
    await out.record(KEYS, 3)
    out.run()
    await out.until(lambda: out.sink.running == 1)
    stopping = asyncio.create_task(out.stop())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    assert out.sink.closed == 0
    owned = await out.mongo.relays.count_documents({"until": {"$exists": True}})
    assert owned == 1, "its partitions are not free yet"
    flushed.set()
    await stopping
    taken = {id_ for ids in out.sink.taken.values() for id_ in ids}
    assert taken
    assert taken.isdisjoint(await out.due())
    assert len(taken) + len(await out.due()) == 90

    after = await outlet(keeps_order=True)
    after.run()
    await after.settled()
    for key, ids in out.recorded.items():
        assert out.sink.taken[key] + after.sink.taken[key] == ids


async def test_a_stop_does_not_wait_for_ever(
    outlet: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hanging call is cancelled and not recorded. The next relay sends its events, at once and in order."""
    monkeypatch.setattr(deliveries, "FINISH_S", 0.3)
    monkeypatch.setattr(deliveries, "CLOSE_S", 0.3)
    out = await outlet(keeps_order=True, max_batch=20, work=hang)

    async def never_closes() -> None:
        out.sink.closed += 1
        await hang()

    monkeypatch.setattr(out.sink, "close", never_closes)
    await out.record(KEYS, 3)
    out.run()
    await out.until(lambda: out.sink.running == 1)
    began = time.monotonic()
    await out.stop()
    assert 0.3 <= time.monotonic() - began < 1.5 * slowness()
    assert out.sink.running == 0
    assert len(await out.due()) == 90
    assert await out.backoffs() == {}
    assert await out.mongo.relays.count_documents({"until": {"$exists": True}}) == 0

    after = await outlet(keeps_order=True)
    after.run()
    await after.settled()
    assert after.sink.taken == out.recorded


async def test_all_that_a_server_records_comes_in_order_in_batches(
    start: Starter, people_of: Callable[[ChatServer], People], outlet: Opener
) -> None:
    """A conversation's events are in two collections, and a batch takes them from both."""
    server = await start(WEBHOOK_URL="http://127.0.0.1:9/", WEBHOOK_RELAY="off")
    out = await outlet(server=server, keeps_order=True, max_batch=40, work=slow)
    out.run()
    alice, bob, carol = people_of(server)("alice", "bob", "carol")
    desk = await alice.connect()
    talks = [await alice.group(bob) for _ in range(8)]

    async def mix(talk: dict[str, str]) -> None:
        path = f"/conversations/{talk['id']}/participants"
        for _ in range(5):
            said = await asyncio.gather(*[desk.say(talk, f"{n}") for n in range(4)])
            await alice.ask("POST", path, {"userIds": [carol.id]})
            await desk.do("message:edit", {"messageId": said[0]["id"], "content": "edited"})
            await alice.ask("DELETE", f"{path}/{carol.id}")

    await asyncio.gather(*map(mix, talks))
    async with ledger_of(server) as ledger:
        await ledger.settled()
        recorded = await ledger.recorded()
        assert sum(map(len, recorded.values())) >= 8 * (1 + 5 * 7)
        assert out.sink.taken == recorded
    assert max(map(len, out.sink.calls)) > 8


# --- the wait for a call -------------------------------------------------------------------------


def event(key: str, number: int = 0) -> Event:
    at = deliveries.now()
    return Event(f"evt_{key}-{number:08x}", "participant.added", key, at, {})  # type: ignore[arg-type]


async def test_events_of_a_key_that_another_relay_took_over_stay_out_of_the_batch() -> None:
    sink = BatchSink(ENDPOINT)
    ours = {"a", "b", "c"}
    batches = Batches(
        "default", sink, lambda queue: queue.ordering_key in ours, lambda *_: None, None
    )
    free = asyncio.Event()
    sink.work = free.wait

    def deliver(key: str) -> asyncio.Task[object]:
        queue = KeyQueue(key, behind=False)
        return asyncio.create_task(batches.deliver(queue, [event(key)]))  # type: ignore[arg-type]

    first, lost, kept = map(deliver, "abc")
    await asyncio.sleep(0)
    ours.remove("b")
    free.set()
    assert await asyncio.gather(first, lost, kept) == [[DELIVERED], None, [DELIVERED]]
    assert [[event.key for event in call] for call in sink.calls] == [["a"], ["c"]]


async def test_a_caller_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    sink = BatchSink(ENDPOINT)
    sink.max_batch = 1
    batches = Batches("default", sink, lambda queue: True, lambda *_: None, None)
    free = asyncio.Event()
    sink.work = free.wait
    deliver = partial(batches.deliver, KeyQueue("k", behind=False))
    first, second, third = [asyncio.create_task(deliver([event(key)])) for key in "abc"]
    await asyncio.sleep(0)
    second.cancel()
    free.set()
    assert await first == await third == [DELIVERED]
    assert await deliver([event("d")]) == [DELIVERED]
    assert [call[0].key for call in sink.calls] == ["a", "c", "d"]
