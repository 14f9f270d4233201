"""The outbox, and the queues that empty it to real receivers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from aiohttp import web

from alarm_service.notify.delivery_history import DeliveryInfo, HistoryQuery, read_history
from alarm_service.notify.delivery_planner import DeliveryPlanner
from alarm_service.notify.dispatcher import Dispatcher, pause
from alarm_service.notify.outbox import Outbox
from alarm_service.notify.policies import Memberships
from alarm_service.notify.settings import NotifySettings
from alarm_service.store.alarms import OnEvents
from alarm_service.store.database import AlarmDatabase, open_alarm_database
from runtime.ports import free_port
from schemas import wire
from tests.alarm_service.notifying import Received, event, receiving, settings, webhook
from tests.support.waiting import eventually

OPS = {"ops": webhook("https://example.com")}
LEASE = timedelta(seconds=10)

Opening = Callable[[OnEvents], AlarmDatabase]


class Bench:
    """A database with its outbox and a clock that stands still until it is set."""

    def __init__(self, opening: Opening, configured: NotifySettings) -> None:
        self.now = datetime.now(UTC)
        self.planner = DeliveryPlanner(configured, Memberships(), lambda: self.now)
        self.database = opening(self.planner.add)
        self.outbox = Outbox(self.database.engine, configured, lambda: self.now)
        self.next = self.database.alarms.offsets().get(0)

    def add(self, *events: wire.AlarmEvent) -> None:
        following = (self.next or 0) + len(events)
        self.database.alarms.add_events(0, self.next, events, following)
        self.next = following

    def deliver(self, channel: str) -> None:
        while (claimed := self.outbox.claim(channel, LEASE)) is not None:
            self.outbox.delivered(claimed.id, "")

    def statuses(self) -> list[tuple[str, str]]:
        return [(one.event_type, one.status) for one in reversed(self.history(100)[0])]

    def history(self, limit: int, offset: int = 0, **which: str) -> tuple[list[DeliveryInfo], int]:
        return read_history(self.database.engine, HistoryQuery(limit, offset, **which))


@pytest.fixture
def opening(database_url: str | None, tmp_path: Path) -> Iterator[Opening]:
    """Opens the test's database, with what is to receive its new events; closes it in the end."""
    with ExitStack() as stack:

        def opened(on_events: OnEvents) -> AlarmDatabase:
            return stack.enter_context(closing(open_alarm_database(database_url, tmp_path / "alarms.db", on_events)))

        yield opened


def soon(sequence: int = 1, kind: str = "triggered", **more: Any) -> wire.AlarmEvent:
    """An event after the database was made."""
    return event(sequence, kind, at=datetime.now(UTC) + timedelta(seconds=1), **more)


def test_deliveries_are_there_with_their_event_or_not_at_all(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(soon())
    bench.add(soon())  # a replay repeats it
    assert bench.statuses() == [("triggered", "pending")]

    def fail(tx: sa.Connection, events: Any) -> None:
        bench.planner.add(tx, events)
        raise RuntimeError("killed here")

    database = opening(fail)
    with pytest.raises(RuntimeError):
        database.alarms.add_events(0, 2, [soon(alarm="b")], 3)
    assert bench.statuses() == [("triggered", "pending")] and database.alarms.offsets() == {0: 2}


def test_what_happened_before_the_database_was_made_is_not_delivered(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(event(1, at=datetime.now(UTC) - timedelta(hours=1)), soon(alarm="b"))
    assert len(bench.statuses()) == 1
    bench.now += timedelta(hours=25)
    bench.add(soon(alarm="c"))  # read a day late
    assert len(bench.statuses()) == 1


def test_a_claim_is_ours_until_it_runs_out_and_keeps_its_id(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(soon())
    first = bench.outbox.claim("ops", LEASE)
    assert first is not None and first.attempt == 1
    assert bench.outbox.claim("ops", LEASE) is None
    assert bench.outbox.next_due("ops") == bench.now + LEASE
    bench.now += LEASE
    second = bench.outbox.claim("ops", LEASE)
    assert second is not None and (second.id, second.attempt) == (first.id, 2)
    bench.outbox.delivered(second.id, "HTTP 200")
    assert bench.outbox.claim("ops", LEASE) is None and bench.outbox.next_due("ops") is None
    assert bench.statuses() == [("triggered", "delivered")]


def test_events_of_an_alarm_keep_their_order_and_let_others_pass(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(soon(1), soon(2, "resolved", status="resolved"), soon(1, alarm="b"))
    first = bench.outbox.claim("ops", LEASE)
    assert first is not None and first.event.sequence == 1
    bench.outbox.postponed(first.id, "HTTP 503: \0\udcff", 60)  # a receiver may say anything
    other = bench.outbox.claim("ops", LEASE)
    assert other is not None and other.event.alarm.alarm_id != first.event.alarm.alarm_id
    assert bench.outbox.claim("ops", LEASE) is None  # the end waits for the begin
    bench.now += timedelta(seconds=60)
    while (claimed := bench.outbox.claim("ops", LEASE)) is not None:
        bench.outbox.delivered(claimed.id, "")
    assert dict(bench.statuses()) == {"triggered": "delivered", "resolved": "delivered"}


ALERTMANAGER = {"am": {"channel_type": "alertmanager", "config": {"url": "https://alerts.example.com"}}}


def test_what_is_open_is_remembered_for_alertmanagers_alone(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS | ALERTMANAGER))
    bench.add(soon(), soon(alarm="b"))
    bench.deliver("am"), bench.deliver("ops")
    assert len(bench.outbox.open_alarms("am")) == 2 and bench.outbox.open_alarms("ops") == []
    bench.add(soon(2, "resolved", status="resolved"))
    assert [one.alarm.alarm_id for one in bench.outbox.open_alarms("am")] == [event(alarm="b").alarm.alarm_id]
    bench.deliver("am")
    assert len(bench.outbox.open_alarms("am")) == 1


def test_what_an_alertmanager_was_not_delivered_is_not_resent(opening: Opening) -> None:
    bench = Bench(opening, settings(ALERTMANAGER))
    bench.add(soon())
    assert bench.outbox.open_alarms("am") == []
    refused = bench.outbox.claim("am", LEASE)
    assert refused is not None
    bench.outbox.failed(refused.id, "HTTP 400")
    assert bench.outbox.open_alarms("am") == []


def test_an_alarm_that_ended_before_its_begin_was_delivered_is_not_resent(opening: Opening) -> None:
    bench = Bench(opening, settings(ALERTMANAGER))
    bench.add(soon())
    begin = bench.outbox.claim("am", LEASE)
    assert begin is not None
    bench.add(soon(2, "resolved", status="resolved"))
    bench.outbox.delivered(begin.id, "")
    assert bench.outbox.open_alarms("am") == []


def test_an_alarm_that_reopened_is_resent_when_that_is_delivered(opening: Opening) -> None:
    bench = Bench(opening, settings(ALERTMANAGER))
    bench.add(soon(), soon(2, "resolved", status="resolved"), soon(3, "reopened"))
    sequences = []
    while (claimed := bench.outbox.claim("am", LEASE)) is not None:
        bench.outbox.delivered(claimed.id, "")
        sequences.append([one.sequence for one in bench.outbox.open_alarms("am")])
    assert sequences == [[1], [], [3]]


def test_tidying_gives_up_what_is_too_old_and_forgets_what_is_long_over(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(soon(), soon(alarm="b"))
    claimed = bench.outbox.claim("ops", LEASE)
    assert claimed is not None
    bench.outbox.delivered(claimed.id, "")
    assert bench.outbox.clean_up() == 0 and bench.outbox.waiting() == {"ops": 1}
    bench.now += timedelta(hours=25)
    assert bench.outbox.clean_up() == 1 and bench.outbox.waiting() == {}
    assert sorted(status for _, status in bench.statuses()) == ["delivered", "failed"]
    bench.now += timedelta(days=31)
    bench.outbox.clean_up()
    assert bench.statuses() == []


def test_erasing_a_device_erases_its_deliveries(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS))
    bench.add(soon(), soon(alarm="b", device_id="ogmen:dog-1"))
    bench.database.alarms.erase("ogmen:dog-1")
    deliveries, total = bench.history(10, 0)
    assert total == 1 and deliveries[0].alarm_id == event().alarm.alarm_id


def test_history_is_paged_and_filtered(opening: Opening) -> None:
    bench = Bench(opening, settings(OPS | {"b": webhook("https://example.com/b")}))
    bench.add(*(soon(alarm=str(n)) for n in range(5)))
    deliveries, total = bench.history(3, 2, channel_id="b")
    assert (len(deliveries), total) == (3, 5) and {one.channel_id for one in deliveries} == {"b"}
    assert bench.history(10, 0, status="failed") == ([], 0)
    assert bench.history(10, 0, channel_type="webhook")[1] == 10


def test_pauses_double_up_to_the_cap_with_jitter() -> None:
    assert [pause(n, 2, 300, 0) for n in (1, 2, 3, 9, 500)] == [2, 4, 8, 300, 300]
    assert pause(1, 2, 300, 0.999) > 1


# -- queues


class Delivering(NamedTuple):
    """A dispatcher's outbox and database."""

    outbox: Outbox
    database: AlarmDatabase

    def history(self, limit: int, **which: str) -> tuple[list[DeliveryInfo], int]:
        return read_history(self.database.engine, HistoryQuery(limit, **which))


@asynccontextmanager
async def delivering(folder: Path, configured: NotifySettings, *events: wire.AlarmEvent) -> AsyncIterator[Delivering]:
    """A database with these events, and a dispatcher at work."""
    planner = DeliveryPlanner(configured, Memberships(), lambda: datetime.now(UTC))
    database = open_alarm_database(None, folder / "alarms.db", planner.add)
    outbox = Outbox(database.engine, configured, lambda: datetime.now(UTC))
    dispatcher = Dispatcher(outbox, configured)
    work = asyncio.create_task(dispatcher.run())
    try:
        await asyncio.to_thread(database.alarms.add_events, 0, None, events, len(events))
        dispatcher.wake()
        yield Delivering(outbox, database)
        assert not work.done()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        database.close()


async def until(work: Delivering, count: int, status: str, seconds: float = 10) -> None:
    await eventually(lambda: work.history(1, status=status)[1] >= count, seconds)


async def test_dead_receivers_delay_nobody_else(tmp_path: Path) -> None:
    """One does not listen, one never answers, one answers errors: the fourth gets all at once, in order."""
    nobody = f"http://127.0.0.1:{free_port()}"
    alarms = [
        soon(n % 2 + 1, ("triggered", "resolved")[n % 2], alarm=str(n // 2), status=("active", "resolved")[n % 2])
        for n in range(20)
    ]
    async with (
        receiving() as good,
        receiving(lambda number, request: 30.0) as silent,
        receiving(lambda number, request: web.Response(status=500)) as broken,
    ):
        urls = {"gone": nobody, "silent": silent.url, "broken": broken.url, "good": good.url}
        configured = settings({key: webhook(url) for key, url in urls.items()})
        began = asyncio.get_running_loop().time()
        async with delivering(tmp_path, configured, *alarms) as work:
            got = await good.wait(20)
            took = got[-1].at - began
            await until(work, 20, "delivered")
            assert work.outbox.waiting() == {"gone": 20, "silent": 20, "broken": 20}
    assert took < 1.0 + 0.05 * 20, "the good receiver waited for a dead one's time-out"
    received = [(one.json["data"]["alarm"]["alarm_id"], one.json["type"]) for one in got]
    assert len(set(received)) == 20
    assert all(
        received.index((alarm, "alarm.triggered")) < received.index((alarm, "alarm.resolved")) for alarm, _ in received
    )


async def test_a_failed_delivery_is_made_again_under_its_id_until_it_arrives(tmp_path: Path) -> None:
    def answer(number: int, request: Any) -> web.Response:
        return web.Response(status=503 if number <= 3 else 200)

    async with (
        receiving(answer) as receiver,
        delivering(tmp_path, settings({"ops": webhook(receiver.url)}), soon()) as work,
    ):
        await until(work, 1, "delivered")
        (one,), _ = work.history(1)
    assert [got.headers["X-Fleetlake-Attempt"] for got in receiver.got] == ["1", "2", "3", "4"]
    assert {got.key for got in receiver.got} == {one.id} == {got.headers["webhook-id"] for got in receiver.got}
    assert one.attempts == 4 and one.sent_at is not None


async def test_what_a_receiver_refuses_for_good_is_given_up_and_the_next_goes_on(tmp_path: Path) -> None:
    first = soon()

    def answer(number: int, request: Any) -> web.Response:
        return web.Response(status=422 if first.event_id in request.body.decode() else 200)

    async with (
        receiving(answer) as receiver,
        delivering(tmp_path, settings({"ops": webhook(receiver.url)}), first, soon(alarm="b")) as work,
    ):
        await until(work, 1, "delivered")
        await until(work, 1, "failed")
    assert len(receiver.got) == 2


async def test_a_receiver_can_say_when_to_come_again(tmp_path: Path) -> None:
    def answer(number: int, request: Any) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"}) if number == 1 else web.Response()

    async with receiving(answer) as receiver, delivering(tmp_path, settings({"ops": webhook(receiver.url)}), soon()):
        first, second = await receiver.wait(2)
    assert 0.95 < second.at - first.at < 3


async def test_an_alertmanager_is_resent_what_is_open_and_not_what_ended(tmp_path: Path) -> None:
    async with receiving() as receiver:
        config = {"url": receiver.url, "allow_private": True, "resend_seconds": 1}
        configured = settings({"am": {"channel_type": "alertmanager", "config": config}})
        ended = [soon(1, alarm="b"), soon(2, "resolved", alarm="b", status="resolved")]
        async with delivering(tmp_path, configured, soon(), *ended):
            await eventually(lambda: len([one for one in receiver.got if "Idempotency-Key" not in one.headers]) >= 2, 5)
    resent = [one.json for one in receiver.got if "Idempotency-Key" not in one.headers]
    assert {alert["labels"]["alarm_id"] for alerts in resent for alert in alerts} == {event().alarm.alarm_id}
    assert sum("Idempotency-Key" in one.headers for one in receiver.got) == 3


async def test_an_alertmanager_that_refuses_what_is_resent_gets_new_alarms(tmp_path: Path) -> None:
    def answer(number: int, request: Received) -> web.Response:
        return web.Response(status=200 if "Idempotency-Key" in request.headers else 413)

    async with receiving(answer) as receiver:
        config = {"url": receiver.url, "allow_private": True, "resend_seconds": 1}
        configured = settings({"am": {"channel_type": "alertmanager", "config": config}})
        async with delivering(tmp_path, configured, soon()) as work:
            await until(work, 1, "delivered")
            await eventually(lambda: any("Idempotency-Key" not in one.headers for one in receiver.got), 5)
            await asyncio.to_thread(work.database.alarms.add_events, 0, 1, [soon(alarm="b")], 2)
            await until(work, 2, "delivered")
            refused = [one.at for one in receiver.got if "Idempotency-Key" not in one.headers]
    assert all(later - sooner >= 0.9 for sooner, later in itertools.pairwise(refused))
