"""WAYSCloud's REST API as it misbehaves: lists that lie, refusals, rules and alarms that come and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.common.state_file import StateFile
from connectors.wayscloud.alarms import RuleReader
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.datapoints import DatapointDefinitions
from connectors.wayscloud.settings import WayscloudSettings
from schemas.topics import DEAD_LETTER, DEVICES, RULES
from schemas.wire import decode_dead_letter, decode_device
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import SimulatorSettings, WaysCloudSimulator
from simulators.wayscloud import SensorFleet, WaysCloud
from tests.connectors.wayscloud import running
from tests.support.tails import OpenTail, RawTail
from tests.support.waiting import eventually

NOW = 1_790_000_000.0


def simulated(**more: Any) -> tuple[SimulatorSettings, WaysCloud]:
    given = {"devices": 45, "embedded_broker": False, "mqtt_port": 1} | more
    settings = SimulatorSettings(faults=FaultSettings.none(), wayscloud=WaysCloudSimulator(**given))
    return settings, WaysCloud(settings, lambda: NOW, SensorFleet(settings, lambda: NOW, lambda _: None).sensors)


def settings_for(port: int, simulator: SimulatorSettings, **more: Any) -> WayscloudSettings:
    url, key = f"http://127.0.0.1:{port}", simulator.wayscloud.api_key
    return WayscloudSettings(api_url=url, api_key=key, requests_per_second=500, page_size=10, **more)


@pytest.mark.parametrize(
    ("paging", "expected"),
    [("sound", 45), ("has_more_false", 45), ("has_more_true", 45), ("total_zero", 45), ("same_page", 10)],
)
@pytest.mark.parametrize("fail_every", [0, 3])
async def test_lists_are_read_to_their_end_whatever_they_say(
    paging: str, expected: int, fail_every: int, tmp_path: Path
) -> None:
    simulator, api = simulated(paging=paging, fail_every=fail_every)
    async with serve(api.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        cloud = WayscloudApi(settings_for(port, simulator), http, tmp_path)
        cloud.rest._backoff_base = 0.01
        assert len(await cloud.items("devices", "device_id")) == expected
        assert len(await cloud.items("rules")) == 2
        assert api.requests < 40, "and no list is read for ever"


async def test_an_answer_is_read_whole_however_large(tmp_path: Path) -> None:
    """Aiohttp's `read(n)` gives what has arrived so far."""
    simulator, api = simulated()
    api.account.tags["sensor-001"] = [f"tag-{number}" for number in range(200_000)]
    async with serve(api.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        cloud = WayscloudApi(settings_for(port, simulator), http, tmp_path)
        assert len((await cloud.read("devices", "sensor-001", "tags"))["tags"]) == 200_000


async def test_requests_keep_within_the_limit(tmp_path: Path) -> None:
    simulator, api = simulated()
    async with serve(api.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        settings = settings_for(port, simulator).model_copy(update={"requests_per_second": 5})
        clouds = [WayscloudApi(settings, http, tmp_path) for _ in range(2)]
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(clouds[n % 2].get("stats") for n in range(6)))
        assert asyncio.get_running_loop().time() - started >= 1


async def test_rules_devices_and_alarms_come_and_go(
    publisher: Publisher, tail: OpenTail, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    simulator, api = simulated(devices=5)
    rules, devices, raw = await tail(RULES), await tail(DEVICES), await raw_tail("wayscloud")
    group = next(iter(api.account.groups))
    async with serve(api.app(), "127.0.0.1", 0) as port:
        settings = settings_for(
            port,
            simulator,
            mqtt_host="127.0.0.1",
            mqtt_port=unused_port(),
            mqtt_tls=False,
            rule_seconds=0.3,
            alarm_seconds=0.3,
            groups={"Floor 3 Sensors": ["sensor-002"]},
            profiles={next(iter(api.account.profiles)): ["sensor-003"]},
        )
        async with running(settings, publisher, tmp_path):
            await rules.until(lambda records: len(records) >= 2)
            threshold = next(r for r in rules.records if json.loads(r.value or b"")["rule_type"] == "threshold")
            rule = json.loads(threshold.value or b"")
            scope = {"scope_type": "vendor", "scope_vendor": "wayscloud", "source": "wayscloud"}
            assert rule == api.account.rules[rule["id"]] | scope and threshold.key == rule["id"].encode()
            offline = next(r for r in (json.loads(r.value or b"") for r in rules.records) if r["id"] != rule["id"])
            assert (offline["scope_type"], offline["scope_device_id"]) == ("device", "sensor-001")
            told = json.loads(dict(threshold.headers)["ce_datapoints"])
            assert told[rule["config"]["datapoint_id"]] == {"name": "temperature", "unit": "°C", "type": "number"}
            del api.account.rules[rule["id"]]
            await rules.until(lambda records: len(records) >= 3)
            assert (rules.records[-1].key, rules.records[-1].value) == (threshold.key, None)

            alarms = await raw.envelopes(lambda found: sum(e.type == "wayscloud.alarm.event" for e in found) >= 2)
            known = next(a for a in api.account.alarms.values() if a["status"] == "active")
            known |= {"status": "resolved", "resolved_at": "2026-09-21T14:13:20Z"}
            alarms = await raw.envelopes(lambda found: sum(e.type == "wayscloud.alarm.event" for e in found) >= 3)
            last = [json.loads(e.data) for e in alarms if e.type == "wayscloud.alarm.event"][-1]
            assert last["alarm"]["id"] == known["id"]
            assert [entry["event_type"] for entry in last["timeline"]] == ["triggered", "resolved"]
            assert "operator@example.com" not in str(alarms)
            whole = [b'"firmware_version":"2.1.0"', b'"groups":[']
            await devices.until(lambda records: all(any(w in (r.value or b"") for r in records) for w in whole))
            await devices.quiet(0.3)
        found = {d.device_id: d for r in devices.records if (d := decode_device(r.value or b""))}
        assert found["wayscloud:sensor-002"].attributes["groups"][0]["id"] == group
        assert found["wayscloud:sensor-002"].attributes["group_id"] == [group]
        profile = next(iter(api.account.profiles.values()))
        assert found["wayscloud:sensor-003"].attributes["profile_id"] == [profile["id"]]
        interval = found["wayscloud:sensor-003"].attributes["reporting_interval_seconds"]
        assert interval == profile["reporting_interval_seconds"]
        assert found["wayscloud:sensor-001"].firmware_version == "2.1.0"
        assert found["wayscloud:sensor-001"].attributes["tags"] == ["production", "floor-1"]
        count = len(rules.records)
        api.paths.clear()
        async with running(settings, publisher, tmp_path):
            await eventually(
                lambda: all(sum(f"/{name}?" in path for path in api.paths) > 1 for name in ("rules", "alarms"))
            )
        await rules.quiet(0.3)
        assert len(rules.records) == count, "known over a restart"
        without = settings.model_copy(update={"import_rules": False, "import_alarms": False})
        api.paths.clear()
        async with running(without, publisher, tmp_path):
            await rules.until(lambda records: len(records) > count)
            await eventually(lambda: sum("/devices?" in path for path in api.paths) > 0)
        assert [record.value for record in rules.records[count:]] == [None], "what was imported is deleted"
        assert not [path for path in api.paths if "/rules" in path or "/alarms" in path]
        again = [e for e in await raw.envelopes(lambda _: True) if e.type == "wayscloud.alarm.event"]
        assert len(again) == 3


async def test_a_rule_that_cannot_be_read_costs_no_other(publisher: Publisher, tail: OpenTail, tmp_path: Path) -> None:
    rules, dead = await tail(RULES), await tail(DEAD_LETTER)
    listed = [{"id": "bad"}, {"id": "good"}]
    answers = {"bad": '{"id": "bad", ', "good": '{"id": "good", "name": "Good"}'}

    async def answer(request: web.Request) -> web.Response:
        rule = answers.get(request.path.rpartition("/")[2])
        return web.Response(text=rule) if rule else web.json_response({"rules": listed, "total": 2})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        settings = WayscloudSettings(api_url=f"http://127.0.0.1:{port}", api_key=SecretStr("k"))
        api = WayscloudApi(settings, http, tmp_path)
        context = Context(publisher, tmp_path)
        reader = RuleReader(context, api, DatapointDefinitions(StateFile(tmp_path / "definitions.json")))
        await reader.read()
        await reader.read()
    (rule,) = await rules.until(lambda records: len(records) >= 1)
    assert rule.key == b"good"
    (letter,) = await dead.until(lambda records: len(records) >= 1)
    assert [p.reason for p in decode_dead_letter(letter.value or b"").problems] == ["not_json"]
