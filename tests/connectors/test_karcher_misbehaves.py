"""Kärcher's cloud as its document warns that it may be: refusals, limits, a fleet that changes, commands, floods."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.common import STAGE
from connectors.common.context import Context
from connectors.common.ownership_leases import OwnershipLeases
from connectors.common.publisher import Publisher
from connectors.karcher.connector import KarcherConnector
from connectors.karcher.settings import KarcherSettings
from runtime.kafka import KafkaSettings
from runtime.metrics import LEFT_OUT
from schemas.envelope import Envelope
from schemas.topics import DEVICES
from schemas.wire import decode_device
from simulators.karcher import KarcherCloud
from simulators.karcher.payloads import Machine, new_machine
from tests.connectors.karcher import cloud, running
from tests.connectors.ownership import of_its_own
from tests.support.tails import OpenTail, RawTail
from tests.support.waiting import eventually, passing

NOTIFICATIONS, STATUSES = "/machines/notifications", "/machines/statuses"


def often(settings: KarcherSettings, **more: float) -> KarcherSettings:
    every = dict.fromkeys(("registry_seconds", "status_seconds", "history_seconds", "commands_seconds"), 0.4)
    return settings.model_copy(update=every | more)


def robots(karcher: KarcherCloud) -> list[Machine]:
    return [m for m in karcher.fleet.machines if m.family != "other" and not m.retired]


def kinds(found: list[Envelope], kind: str) -> list[Envelope]:
    return [e for e in found if e.type == f"karcher.{kind}"]


@asynccontextmanager
async def connected(settings: KarcherSettings, publisher: Publisher, folder: Path) -> AsyncIterator[KarcherConnector]:
    connector = KarcherConnector(settings, Context(publisher, folder))
    async with running(connector):
        yield connector


async def test_each_step_of_a_command_comes_once_even_over_a_restart(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("karcher")
    async with cloud(devices=3) as (karcher, settings):
        settings = often(settings)
        kira = next(m for m in karcher.fleet.machines if m.family == "kira")
        cancelled = karcher.executions.send(kira, "missionPause", {}).execution_id
        async with connected(settings, publisher, tmp_path):
            await eventually(lambda: karcher.requests["/machines/command-execution/{execution}", 200] >= 3)
            karcher.executions.cancel(cancelled)
            await raw.envelopes(lambda found: b"CANCELLED" in b"".join(e.data for e in kinds(found, "command")))
            remembered = tmp_path / "karcher-commands-0.json"  # until then a restart may tell it again, by the same id
            await eventually(lambda: f"{cancelled} finished" in remembered.read_text())
        karcher.misbehaviour.bare_details = True  # now without `data`, and CANCELED
        later = karcher.executions.send(kira, "missionStop", {}).execution_id
        async with connected(settings, publisher, tmp_path):
            found = await raw.envelopes(
                lambda found: any(later in e.data.decode() and b"SUCCEEDED" in e.data for e in kinds(found, "command")),
            )
    commands = kinds(found, "command")
    steps = [
        (body["executionId"], body["executionEvents"][0]["status"]) for body in (json.loads(e.data) for e in commands)
    ]
    assert len(steps) == len(set(steps)) == len({e.id for e in commands})
    mine = [status for execution, status in steps if execution == later]
    assert mine == ["REQUESTED", "QUEUED", "SUCCEEDED"]
    assert (cancelled, "CANCELLED") in steps and (cancelled, "CANCELED") not in steps
    history = b"".join(e.data for e in commands)
    assert history.count(b"lockcode") >= 2, "both ways of giving a PIN"
    assert b"4711" not in history and b"4712" not in history and b"7sup7pd" not in history


async def test_a_command_whose_details_are_forbidden_is_told_by_its_history(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("karcher")
    async with cloud() as (karcher, settings):
        karcher.misbehaviour.answers["/machines/command-execution/{execution}"] = 403
        machine = robots(karcher)[0]
        sent = karcher.executions.send(machine, "missionPause", {}).execution_id
        async with connected(often(settings), publisher, tmp_path):
            await eventually(lambda: karcher.requests["/machines/{material}/{serial}/command-executions", 200] >= 11)
            found = await raw.envelopes(lambda found: any(sent in e.data.decode() for e in kinds(found, "command")))
    told = [e for e in found if sent in e.data.decode()]
    assert [json.loads(e.data)["executionEvents"] for e in told] == [[]]


async def test_machines_that_appear_and_vanish_are_picked_up(
    publisher: Publisher, tail: OpenTail, tmp_path: Path
) -> None:
    devices = await tail(DEVICES)
    async with cloud() as (karcher, settings), connected(often(settings), publisher, tmp_path):
        first, new = robots(karcher)[0], new_machine(1, 900)
        await eventually(lambda: karcher.sockets.listeners(first) == 1)
        karcher.fleet.register(new)
        await eventually(lambda: karcher.sockets.listeners(new) == 1)
        karcher.fleet.unregister(first)
        await eventually(lambda: karcher.sockets.listeners(first) == 0)

        def says(registered: bool, machine: Machine) -> bool:
            told = [decode_device(r.value or b"") for r in devices.records]
            return any(d.device_id == f"karcher:{machine.native_id}" and d.registered is registered for d in told)

        await devices.until(lambda _: says(False, first) and says(True, new))
        assert karcher.sockets.listeners(new) == 1


async def test_what_is_forbidden_is_said_once_and_the_rest_goes_on(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await raw_tail("karcher")
    caplog.set_level(logging.INFO)

    def about() -> list[str]:
        return [r.getMessage() for r in caplog.records if "notifications" in r.getMessage()]

    async with cloud() as (karcher, settings):
        karcher.misbehaviour.answers |= {NOTIFICATIONS: 403, "socket": 403}
        async with connected(often(settings, registry_seconds=0.5), publisher, tmp_path):
            await eventually(lambda: karcher.requests[NOTIFICATIONS, 403] >= 2)
            await eventually(lambda: karcher.requests["socket", 403] >= 2 * len(robots(karcher)))
            found = await raw.envelopes(lambda found: len(kinds(found, "status")) > 5)
            assert kinds(found, "cleaning.report")
            asked = karcher.requests["token", 200]
            del karcher.misbehaviour.answers[NOTIFICATIONS]
            await raw.envelopes(lambda found: bool(kinds(found, "notification")))
            await eventually(lambda: len(about()) >= 2)  # said when all that was read is in Kafka
    told = about()
    assert len(told) == 2 and "403, forbidden" in told[0] and "again" in told[1]
    assert len([r for r in caplog.records if "external-api/websocket:connect" in r.getMessage()]) == 1
    assert asked == 1, "a refusal for lack of scope costs no token"


async def test_one_machine_that_spoils_a_request_costs_no_other(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("karcher")
    async with cloud() as (karcher, settings):
        bad = robots(karcher)[0]
        karcher.misbehaviour.poison = bad.machine_id
        wanted = {f"karcher:{m.native_id}" for m in karcher.fleet.machines if not m.retired and m is not bad}
        async with connected(often(settings), publisher, tmp_path):
            found = await raw.envelopes(lambda found: {e.device_id for e in kinds(found, "status")} >= wanted)
    assert f"karcher:{bad.native_id}" not in {e.device_id for e in kinds(found, "status")}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_outage_of_an_endpoint_is_ridden_out(
    status: int, publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await raw_tail("karcher")
    caplog.set_level(logging.INFO)
    async with cloud() as (karcher, settings):
        karcher.misbehaviour.answers[STATUSES] = status
        karcher.misbehaviour.retry_after = 1
        async with connected(often(settings, status_seconds=0.2), publisher, tmp_path):
            await eventually(lambda: karcher.requests[STATUSES, status] >= 2)
            before = karcher.requests[STATUSES, status]
            if status == 429:  # nobody asks before the time that was told
                await passing(0.7, "most of the second that was told")
                assert karcher.requests[STATUSES, status] == before
            karcher.misbehaviour.answers.clear()
            await raw.envelopes(lambda found: bool(kinds(found, "status")))
        assert karcher.requests[STATUSES, status] < 8


async def test_a_flood_is_left_out_and_counted_and_costs_no_other_machine(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = await raw_tail("karcher")
    counter = LEFT_OUT.labels(STAGE, "karcher", "flood")
    before = counter._value.get()
    async with cloud() as (karcher, settings):
        loud, quiet = robots(karcher)[:2]
        limited = settings.model_copy(update={"messages_per_second": 20.0})
        async with connected(limited, publisher, tmp_path):
            await eventually(lambda: karcher.sockets.listeners(loud) == 1 and karcher.sockets.listeners(quiet) == 1)
            await karcher.sockets.flood(loud, 3000)
            await eventually(lambda: counter._value.get() - before > 2500)
            flooded = time.time()
            found = await raw.envelopes(
                lambda found: (
                    {e.device_id for e in kinds(found, "datapoints") if e.received_at.timestamp() > flooded}
                    >= {f"karcher:{loud.native_id}", f"karcher:{quiet.native_id}"}
                )
            )
            assert karcher.requests["socket", 101] == len(robots(karcher)), "no connection was lost"
    passed = [e for e in found if e.device_id == f"karcher:{loud.native_id}" and b"Idle " in e.data]
    assert len(passed) + counter._value.get() - before >= 3000
    assert len([r for r in caplog.records if "floods" in r.getMessage()]) == 1


async def test_two_processes_hold_each_machine_once(
    publisher: Publisher, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = of_its_own(kafka_settings)
    async with cloud(devices=40, rate=1) as (karcher, settings):
        wanted = len(robots(karcher))

        def held() -> list[int]:
            return [karcher.sockets.listeners(machine) for machine in robots(karcher)]

        async with AsyncProcess(settings, publisher, kafka, tmp_path):
            await eventually(lambda: held() == [1] * wanted)
            most = 0
            async with AsyncProcess(settings, publisher, kafka, tmp_path) as second:
                begun = time.monotonic()
                while not second.sockets or held() != [1] * wanted or time.monotonic() < begun + 3:
                    most = max(most, *held())
                    assert time.monotonic() < begun + 30, held()
                    await passing(0.01, "at every moment of some seconds, none is held twice")
                assert most == 1
                assert 8 < second.sockets < 32
                assert sum(karcher.requests["socket", status] for status in (101,)) < 2 * wanted, "the rest stayed"
            await eventually(lambda: held() == [1] * wanted, 10)


class AsyncProcess:
    """A connector with an ownership of its own, as a process has it."""

    def __init__(self, settings: KarcherSettings, publisher: Publisher, kafka: KafkaSettings, folder: Path) -> None:
        self._ownership = OwnershipLeases("karcher", kafka, folder)
        self._connector = KarcherConnector(settings, Context(publisher, folder, ownership=self._ownership))

    async def __aenter__(self) -> KarcherConnector:
        self._member = asyncio.create_task(self._ownership.run())
        self._work = asyncio.create_task(self._connector.run())
        return self._connector

    async def __aexit__(self, *_: object) -> None:
        for task in (self._work, self._member):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
