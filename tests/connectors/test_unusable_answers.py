"""Answers and entries of lists that cannot be read: a dead letter each, no other entry is lost, and nothing is gone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from connectors.common.context import Context
from connectors.common.unusable_answers import UnusableAnswers
from connectors.karcher.cloud import open_cloud
from connectors.karcher.commands import CommandReader
from connectors.karcher.protocol import AnswerError
from connectors.karcher.registry import MachineRegistry
from connectors.karcher.settings import KarcherSettings
from connectors.karcher.statuses import StatusReader
from connectors.ogmen.accounts import AccountReader
from connectors.ogmen.cloud import Cloud
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.settings import OgmenSettings
from connectors.wayscloud.alarms import AlarmReader
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.device_registry import DeviceRegistry
from connectors.wayscloud.settings import WayscloudSettings
from schemas.wire import Device, Problem
from simulators.net import serve
from tests.connectors.recording import RecordingPublisher, recording_context

HTML = b"<html><body>Bad gateway, token=SECRET471</body></html>"
NOW = datetime(2026, 11, 28, tzinfo=UTC)


class Answers:
    """A server that answers each path as it is told; `url` is its address."""

    def __init__(self) -> None:
        self.of: dict[str, Any] = {"/token": {"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}}
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        answer = self.of.get(request.path_qs, self.of.get(request.path))
        if answer is None:
            raise web.HTTPNotFound
        return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer).encode())


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[Answers, aiohttp.ClientSession]]:
    answers = Answers()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answers.handle)
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        answers.url = f"http://127.0.0.1:{port}"
        yield answers, http


def reasons(publisher: RecordingPublisher) -> list[tuple[str | None, str]]:
    assert not any("SECRET471" in letter.payload for letter in publisher.dead_letters)
    return [(letter.message_type, letter.problems[0].reason) for letter in publisher.dead_letters]


async def test_an_answer_is_reported_until_it_is_usable_and_an_entry_once() -> None:
    publisher = RecordingPublisher()
    unusable = UnusableAnswers("v", publisher)  # type: ignore[arg-type]
    error = ValueError("no JSON")
    for body in (b"<a>", b"<b>"):
        await unusable.answer("list", "/list", body, error)
    unusable.usable("/other")
    await unusable.answer("list", "/list", b"<c>", error)
    assert [letter.payload for letter in publisher.dead_letters] == ["<a>"]
    unusable.usable("/list")
    await unusable.answer("list", "/list", b"<c>", error)
    for entry in (b"1", b"2", b"1"):
        await unusable.entry("entry", entry, Problem("", "missing", ""))
    assert [letter.payload for letter in publisher.dead_letters] == ["<a>", "<c>", "1", "2"]


# -- Kärcher


def machine(number: int, **generic: Any) -> dict[str, Any]:
    known = {"materialNumber": "1.454-500.0", "serialNumber": f"00{number}", "model": "KIRA"}
    return {"machineId": f"m{number}", "generic": {n: v for n, v in (known | generic).items() if v is not None}}


class Karcher:
    """The parts of a Kärcher connector that read an account."""

    def __init__(self, answers: Answers, http: aiohttp.ClientSession, folder: Path, *registered: str) -> None:
        settings = KarcherSettings(
            token_url=f"{answers.url}/token",
            api_url=answers.url,
            socket_url="ws://127.0.0.1:1",
            client_id="c",
            client_secret=SecretStr("s"),
            requests_per_second=500,
        )
        self.publisher = RecordingPublisher()
        base = recording_context(self.publisher, folder)
        self.context = Context(base.publisher, folder, registry=_Registered(registered))
        self.cloud = open_cloud(settings, http, folder, base.publisher)
        self.registry = MachineRegistry(self.cloud, self.context)

    async def read(self) -> set[str]:
        """Read and publish the registry; the machines that are known then."""
        await self.registry.read()
        await self.registry.publish()
        return {machine.machine_id for machine in self.registry.owned()}

    @property
    def gone(self) -> list[str]:
        return [device.device_id for device in self.publisher.devices if not device.registered]


class _Registered:
    """What the registry topic holds from before."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    async def registered(self, vendor: str) -> dict[str, Device]:
        return {
            f"karcher:1.454-500.0/00{name[1:]}": Device(
                f"karcher:1.454-500.0/00{name[1:]}", vendor, NOW, attributes={"machineId": name}
            )
            for name in self.names
        }


BROKEN: list[Any] = [
    {"machineId": "m2"},
    {"machineId": "m2", "generic": "?"},
    machine(2) | {"machineId": None},
    "not an object",
    {},
]


@pytest.mark.parametrize("broken", BROKEN, ids=repr)
async def test_a_machine_that_cannot_be_read_is_not_gone(broken: Any, tmp_path: Path) -> None:
    async with answering() as (answers, http):
        karcher = Karcher(answers, http, tmp_path, "m1", "m2", "m9")
        answers.of["/machines/specifications"] = [machine(1), broken]
        assert await karcher.read() == {"m1"}, "it was never read"
        assert "karcher:1.454-500.0/002" not in karcher.gone, "though the topic knows it, and the list does not"
        answers.of["/machines/specifications"] = [machine(1), machine(2)]
        assert await karcher.read() == {"m1", "m2"}
        answers.of["/machines/specifications"] = [machine(1), broken]
        for _ in range(3):
            assert await karcher.read() == {"m1", "m2"}, "it stays as it was"
        assert karcher.gone == ["karcher:1.454-500.0/009"], "not listed, and nothing that cannot be read may be it"
        assert reasons(karcher.publisher) == [("karcher.machine", "missing")]
        answers.of["/machines/specifications"] = [machine(1)]
        assert await karcher.read() == {"m1"}
        assert sorted(karcher.gone) == ["karcher:1.454-500.0/002", "karcher:1.454-500.0/009"]


async def test_a_page_that_is_not_json_is_a_dead_letter_and_costs_no_other(tmp_path: Path) -> None:
    async with answering() as (answers, http):
        karcher = Karcher(answers, http, tmp_path)
        answers.of["/machines/specifications"] = HTML
        for _ in range(2):
            with pytest.raises(AnswerError):
                await karcher.read()
        assert reasons(karcher.publisher) == [("karcher.specifications", "bad_answer")]
        answers.of["/machines/specifications"] = [machine(number) for number in range(10, 22)]
        await karcher.read()
        first = ",".join(f"m{number}" for number in range(10, 20))
        answers.of[f"/machines/statuses?machineIds={first.replace(',', '%2C')}"] = HTML
        answers.of[f"/machines/statuses?machineIds={first}"] = HTML
        answers.of["/machines/statuses"] = [{"machineId": "m21", "lastContact": "2026-11-28T01:00:00Z"}]
        statuses = StatusReader(karcher.cloud, karcher.context, karcher.registry)
        for _ in range(2):
            with pytest.raises(AnswerError):
                await statuses.read_all()
        assert {envelope.device_id for envelope in karcher.publisher.envelopes} == {"karcher:1.454-500.0/0021"}
        assert reasons(karcher.publisher)[1:] == [("karcher.statuses", "bad_answer")]


async def test_a_history_or_an_execution_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    async with answering() as (answers, http):
        karcher = Karcher(answers, http, tmp_path)
        answers.of["/machines/specifications"] = [machine(1), machine(2)]
        await karcher.read()
        histories = karcher.cloud.settings.executions_path
        paths = [histories.format(material="1.454-500.0", serial=serial) for serial in ("001", "002")]
        answers.of[paths[0]] = HTML
        created = datetime.now(UTC).isoformat()
        answers.of[paths[1]] = [{"createdAt": created}, {"executionId": "e1", "createdAt": created}, 7]
        commands = CommandReader(karcher.cloud, karcher.context, karcher.registry)
        for _ in range(2):
            with pytest.raises(AnswerError):
                await commands.read_all()
        (only,) = karcher.publisher.envelopes
        assert only.device_id == "karcher:1.454-500.0/002" and b"e1" in only.data
        assert sorted(reasons(karcher.publisher)) == [
            ("karcher.command", "missing"),
            ("karcher.command", "missing"),
            ("karcher.commands", "bad_answer"),
        ]


# -- the others


async def test_an_entry_of_an_ogmen_account_that_names_no_robot_takes_none_away(tmp_path: Path) -> None:
    async with answering() as (answers, http):
        publisher = RecordingPublisher()
        context = recording_context(publisher, tmp_path)
        settings = OgmenSettings(
            webhook_port=-1, api_url=answers.url, accounts=["a"], account_devices_path="/accounts/{account_id}"
        )
        registry = RobotRegistry(settings, context)

        async def on_gap(_: object) -> None:
            return None

        reader = AccountReader(settings, Cloud(settings, http, on_gap), registry, FailingEndpoints(), lambda: None)

        async def robots(answer: Any) -> set[str]:
            answers.of["/accounts/a"] = answer
            await reader._read()
            return set(registry.robots)

        assert await robots([{"device_id": "r1"}, {"device_id": "r2"}]) == {"r1", "r2"}
        assert await robots([{"device_id": "r1"}, {"device": "r2"}]) == {"r1", "r2"}
        assert await robots(HTML) == {"r1", "r2"}
        assert await robots(HTML) == {"r1", "r2"}
        assert not [device for device in publisher.devices if not device.registered]
        assert reasons(publisher) == [("ogmen.account_devices", "missing"), ("ogmen.account_devices", "bad_answer")]
        assert await robots([{"device_id": "r1"}]) == {"r1"}
        assert [device.device_id for device in publisher.devices if not device.registered] == ["ogmen:r2"]


async def test_an_alarm_or_an_entry_of_wayscloud_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    async with answering() as (answers, http):
        publisher = RecordingPublisher()
        context = recording_context(publisher, tmp_path)
        settings = WayscloudSettings(api_url=answers.url, api_key=SecretStr("k"), requests_per_second=500)
        api = WayscloudApi(settings, http, tmp_path, context.publisher)
        listed = [{"id": name, "status": "active", "device_id": "d"} for name in ("one", "two")]
        answers.of["/v1/iot/alarms"] = {"alarms": [*listed, {"status": "active"}], "total": 3}
        answers.of["/v1/iot/alarms/one"] = HTML
        answers.of["/v1/iot/alarms/two"] = listed[1]
        answers.of["/v1/iot/alarms/two/timeline"] = []
        reader = AlarmReader(context, api, 3600)
        for _ in range(2):
            with pytest.raises(ValueError, match="Expecting value"):
                await reader.read()
        assert [b'"two"' in envelope.data for envelope in publisher.envelopes] == [True]
        assert reasons(publisher) == [("wayscloud.alarms", "missing"), ("wayscloud.alarms", "bad_answer")]
        answers.of["/v1/iot/devices"] = {"devices": [{"device_id": "d"}]}
        answers.of["/v1/iot/devices/d"] = {"device_id": "d", "tags": []}
        answers.of["/v1/iot/devices/d/health"] = HTML
        registry = DeviceRegistry(settings, context, api, lambda _: None)
        await registry.read_list()
        with pytest.raises(ValueError, match="Expecting value"):
            await registry.read_due_devices()
        assert reasons(publisher)[2:] == [("wayscloud.devices", "bad_answer")]
