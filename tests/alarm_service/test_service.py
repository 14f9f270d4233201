"""The alarm service as it is run, on real Kafka, with the real alarm engine behind it."""

from __future__ import annotations

import asyncio
import getpass
import itertools
import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from alarm_service.action_client import KnownAlarm, act
from alarm_service.service import AlarmServiceConfig, run_alarms
from alarm_service.settings import AlarmsSettings
from alarm_service.store.alarms import AlarmFilter
from alarm_service.store.database import open_alarm_database
from fleetlake.local.broker import EmbeddedKafka
from runtime.health import Health
from runtime.kafka import KafkaSettings, declare_topics
from runtime.ports import free_port
from schemas import alarm_api, wire
from schemas.topics import ALARM_ACTIONS, ALARMS, topic_specs
from tests.alarm_service.events import event
from tests.alarm_service.service import HOT, PARTITIONS, Client, Running, raised, ready
from tests.support.kafka import read_all
from tests.support.waiting import eventually, passing


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("alarms")
    with EmbeddedKafka(folder) as broker:
        here = Running(broker.bootstrap, folder)
        asyncio.run(declare_topics(KafkaSettings(bootstrap_servers=here.kafka, partitions=PARTITIONS), topic_specs()))
        try:
            for stage in (("stream",), ("sink",), ("alarms", "serve")):
                here.start(*stage)
            here.key = here.run("keys", "create", "operator@example.com", "--role", "admin").strip()
            yield here
        finally:
            for process in here.processes:
                process.kill()
                process.wait()


@pytest_asyncio.fixture
async def ask(running: Running) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield await ready(running, Client(session, f"http://127.0.0.1:{running.port}", running.key))


@pytest.mark.documented
async def test_an_alarm_lives_and_its_timeline_tells_it(running: Running, ask: Client) -> None:
    listed = await raised(running, ask, "sensor-001")
    alarm = f"/v1/iot/alarms/{listed['id']}"
    documented = ("id", "device_id", "severity", "title", "status", "triggered_at", "occurrence_count")
    assert list(listed)[: len(documented)] == list(documented)
    assert (listed["status"], listed["severity"], listed["device_id"]) == ("active", "warning", "wayscloud:sensor-001")

    detail = await ask("POST", f"{alarm}/acknowledge", {"note": "Investigating — ä"})
    documented = (
        "id", "device_id", "rule_id", "rule_name", "severity", "title", "message", "status", "triggered_at",
        "occurrence_count", "acknowledged_at", "resolved_at", "created_at",
    )  # fmt: skip
    assert list(detail)[: len(documented)] == list(documented)
    assert detail["status"] == "acknowledged" and detail["acknowledged_at"] and detail["resolved_at"] is None
    assert detail == await ask("GET", alarm)
    assert (await ask("POST", f"{alarm}/acknowledge", status=409))["error"] == "conflict"

    until = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    assert (await ask("POST", f"{alarm}/snooze", {"until": until}))["snoozed_until"]
    assert (await ask("POST", f"{alarm}/resolve"))["status"] == "resolved"
    assert "is already resolved" in (await ask("POST", f"{alarm}/resolve", {}, 409))["message"]
    bearer = {"X-API-Key": "", "Authorization": f"Bearer {ask.key}"}
    assert (await ask("POST", f"{alarm}/reopen", {"note": None}, headers=bearer))["status"] == "active"

    timeline = await ask("GET", f"{alarm}/timeline")
    assert [entry["id"] for entry in timeline] == [1, 2, 3, 4, 5]
    assert {"id", "event_type", "actor", "note", "metadata", "created_at"} <= timeline[0].keys()
    entries = [(entry["event_type"], entry["actor"], entry["note"]) for entry in timeline]
    who = "operator@example.com"
    assert entries == [
        ("triggered", "rule_engine", None),
        ("acknowledged", who, "Investigating — ä"),
        ("snoozed", who, None),
        ("resolved", who, None),
        ("reopened", who, None),
    ]
    summary = await ask("GET", "/v1/iot/alarms/summary")
    assert summary["active_total"] == summary["by_status"]["active"] + summary["by_status"]["acknowledged"] > 0
    assert summary["active_total"] == sum(summary["by_severity"].values())


@pytest.mark.documented
async def test_rules_are_made_changed_and_deleted(ask: Client) -> None:
    """The document's requests, one by one; what is written can be read at once."""
    config = {"datapoint_id": "dp-abc123", "duration_seconds": 300, "operator": "gt", "value": 35}
    made = await ask("POST", "/v1/iot/rules", {**HOT, "config": config}, 201)
    rule = f"/v1/iot/rules/{made['id']}"
    assert await ask("GET", rule) == made
    expected = {"scope_type": "fleet", "cooldown_seconds": 300, "is_enabled": True, "auto_resolve": False}
    assert expected.items() <= made.items() and made["config"] == config and made["created_at"] == made["updated_at"]

    changes = {"config": {"value": 40}, "severity": "critical", "created_at": "2020-01-01T00:00:00Z"}
    changed = await ask("PUT", rule, changes)
    assert changed["config"] == {**config, "value": 40} and changed["severity"] == "critical"
    assert changed["created_at"] == made["created_at"] < changed["updated_at"]
    together = [ask("PUT", rule, {"config": {name: {"x": 1}}}, 400) for name in ("value", "extra")]
    together += [ask("PUT", rule, {part: 7}) for part in ("cooldown_seconds",)]
    together += [ask("PUT", rule, {"description": "seven"}), ask("POST", f"{rule}/disable")]
    await asyncio.gather(*together)
    read = await ask("GET", rule)
    assert (read["cooldown_seconds"], read["description"], read["is_enabled"]) == (7, "seven", False), "none is lost"
    listed = {"id": made["id"], "name": HOT["name"], "rule_type": "threshold", "severity": "critical"}
    assert {**listed, "is_enabled": False} in (await ask("GET", "/v1/iot/rules"))["rules"]
    assert (await ask("POST", f"{rule}/enable"))["is_enabled"] is True

    assert (await ask("POST", "/v1/iot/rules", {**HOT, "id": made["id"]}, 409))["error"] == "conflict"
    wrong = await ask("POST", "/v1/iot/rules", {**HOT, "config": {**config, "operator": "above"}}, 400)
    assert wrong["message"].startswith("config.operator: ")
    await ask("DELETE", rule, status=204)
    for method, path in (("GET", rule), ("PUT", rule), ("DELETE", rule), ("POST", f"{rule}/enable")):
        assert (await ask(method, path, {} if method == "PUT" else None, 404))["error"] == "not_found"


async def test_a_misspelt_field_of_a_rule_is_refused(ask: Client) -> None:
    rule = {"name": "R", "rule_type": "offline", "config": {"duration_seconds": 5}, "id": "misspelt"}
    message = "severty: is unknown; did you mean severity?"
    assert (await ask("POST", "/v1/iot/rules", {**rule, "severty": "major"}, 400))["message"] == message
    await ask("POST", "/v1/iot/rules", rule, 201)
    assert (await ask("PUT", "/v1/iot/rules/misspelt", {"severty": "major"}, 400))["message"] == message
    await ask("DELETE", "/v1/iot/rules/misspelt", status=204)


async def test_what_cannot_be_taken_is_refused_in_one_form(running: Running, ask: Client) -> None:
    ids = dict.fromkeys(("alarm_id", "rule_id", "channel_id", "policy_id"), "x")
    paths = [(e.method, e.path.format(**ids)) for e in alarm_api.ENDPOINTS]
    strangers = ({"X-API-Key": ""}, {"X-API-Key": ask.key[:-1] + "x"}, {"X-API-Key": "", "Authorization": "Bearer"})
    for method, path in paths:
        for headers in strangers:
            assert (await ask(method.upper(), path, status=401, headers=headers))["error"] == "unauthorized"
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"GET /v1/iot/alarms HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\nX-API-Key: \xff\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    writer.close()
    for query in ("page=0", "page=x", "page_size=501", "page_size=-1", "page=²", "status=open", "severity=bad"):
        assert (await ask("GET", f"/v1/iot/alarms?{query}", status=400))["error"] == "invalid_request"
    for body in (b"{", b"[]", b'{"name": NaN}', b'{"name": "\\ud800"}', b"\xff", b"[" * 5000):
        assert (await ask("POST", "/v1/iot/rules", body, 400))["error"] == "invalid_request"
    assert (await ask("POST", "/v1/iot/rules", b" " * 70_000, 413))["error"] == "payload_too_large"
    assert (await ask("GET", "/v1/iot/alarms/00000000-0000-0000-0000-000000000000", status=404))["error"] == "not_found"
    assert (await ask("GET", "/v1/iot/alarms/%00/timeline", status=404))["error"] == "not_found"
    assert (await ask("GET", "/v1/iot/nothing", status=404))["error"] == "not_found"
    assert (await ask("DELETE", "/v1/iot/alarms", status=405))["error"] == "method_not_allowed"
    assert (await ask("GET", "/openapi.json", headers={"X-API-Key": ""})) == alarm_api.openapi()

    other = running.run("keys", "create", "once").strip()
    await ask("GET", "/v1/iot/rules", headers={"X-API-Key": other})
    running.run("keys", "revoke", other.split("_")[1])
    await ask("GET", "/v1/iot/rules", headers={"X-API-Key": other}, status=401)
    assert "in force" in running.run("keys", "list") and other not in running.run("keys", "list")


async def test_a_key_may_do_what_its_role_allows(running: Running, ask: Client) -> None:
    ids = dict.fromkeys(("alarm_id", "rule_id", "channel_id", "policy_id"), "x")
    keys = {role: running.run("keys", "create", role, "--role", role).strip() for role in ("read", "operate", "admin")}
    allowed: dict[str, set[str]] = {role: set() for role in keys}
    for role, key in keys.items():
        for endpoint in alarm_api.ENDPOINTS:
            url = ask.base + endpoint.path.format(**ids)
            async with ask.session.request(endpoint.method, url, headers={"X-API-Key": key}) as answer:
                body = await answer.json()
            if answer.status != 403:
                allowed[role].add(endpoint.name)
                continue
            assert body["error"] == "forbidden"
            assert f"role {endpoint.role}" in body["message"] and f"may {role}" in body["message"]
    every = {endpoint.name: endpoint.method for endpoint in alarm_api.ENDPOINTS}
    assert allowed["read"] == {name for name, method in every.items() if method == "get"}
    assert allowed["operate"] - allowed["read"] == {*alarm_api.ACTIONS, "test_channel"}
    assert allowed["admin"] == every.keys()
    listed = running.run("keys", "list")
    assert all(re.search(rf"\b{role}\b.*\b{role}\b", listed) for role in keys)
    default = running.run("keys", "create", "somebody").strip()
    refused = await ask("DELETE", "/v1/iot/rules/x", status=403, headers={"X-API-Key": default})
    assert refused["message"] == "This takes a key of role admin; this key may operate"


async def test_a_request_made_again_is_carried_out_once(running: Running, ask: Client) -> None:
    alarm = f"/v1/iot/alarms/{(await raised(running, ask, 'again'))['id']}"
    same_key = {"headers": {"Idempotency-Key": "mine, 1"}}
    until = {"until": (datetime.now(UTC) + timedelta(hours=2)).isoformat()}
    first = await ask("POST", f"{alarm}/snooze", until, **same_key)
    assert await ask("POST", f"{alarm}/snooze", until, **same_key) == first
    assert (await ask("POST", f"{alarm}/resolve", **same_key))["status"] == "resolved", (
        "another action is another request"
    )
    assert (await ask("POST", f"{alarm}/resolve", **same_key))["status"] == "resolved", "no conflict: it is done"
    for wrong in ("", "x" * 256, "\u00e4"):
        await ask("POST", f"{alarm}/reopen", status=400, headers={"Idempotency-Key": wrong})
    entries = [entry["event_type"] for entry in await ask("GET", f"{alarm}/timeline")]
    assert [kind for kind in entries if kind != "repeated"] == ["triggered", "snoozed", "resolved"]


async def test_what_the_engine_leaves_undone_is_said_to_wait(running: Running, ask: Client) -> None:
    """An alarm that no engine knows: the action stays without effect."""
    name, stop, port = str(uuid4()), asyncio.Event(), free_port()
    settings = AlarmsSettings(port=port, action_seconds=1)  # a second service on the same database
    kafka = KafkaSettings(bootstrap_servers=running.kafka)
    serving = asyncio.create_task(
        run_alarms(AlarmServiceConfig(settings, kafka, running.folder / "data"), stop, Health("alarms"))
    )
    ask = await ready(running, Client(ask.session, f"http://127.0.0.1:{port}", ask.key))
    async with AIOKafkaProducer(bootstrap_servers=running.kafka) as producer:
        planted = wire.encode(event(name, 1, device="wayscloud:ghost"))
        await producer.send_and_wait(ALARMS, planted, key=b"wayscloud:ghost")

    async def is_listed() -> bool:
        return bool((await ask("GET", "/v1/iot/alarms", params={"device_id": "ghost"}))["total"])

    await eventually(is_listed)
    for body in ({}, {"until": "soon"}, {"until": "2020-01-01T00:00:00Z"}, {"until": "9999-12-31T23:59:59-12:00"}):
        assert "until" in (await ask("POST", f"/v1/iot/alarms/{name}/snooze", body, 400))["message"]
    await ask("POST", f"/v1/iot/alarms/{name}/resolve", {"note": "x" * 4001}, 400)
    answer = await ask("POST", f"/v1/iot/alarms/{name}/resolve", status=202)
    assert answer["status"] == "active" and "waits for the alarm engine" in answer["pending"]
    stop.set()
    await serving
    written = [r for records in (await read_all(running.kafka, ALARM_ACTIONS, PARTITIONS)).values() for r in records]
    action = next(a for r in written if (a := wire.decode_alarm_action(r.value or b"")).alarm_id == name)
    assert action.action_id in answer["pending"]
    assert (action.action, action.device_id, action.actor) == ("resolve", "wayscloud:ghost", "operator@example.com")


async def test_the_command_line_reads_what_is_published_and_acts_through_kafka(running: Running, ask: Client) -> None:
    alarm = (await raised(running, ask, "cli"))["id"]

    def shows(name: str) -> dict[str, Any] | None:
        with suppress(AssertionError):
            shown: dict[str, Any] = json.loads(running.run("show", name, "--json"))
            return shown
        return None

    shown = await eventually(lambda: asyncio.to_thread(shows, alarm[:13]), 30, running.logs)
    assert shown is not None and shown["timeline"][0]["metadata"]["severity"] == "warning"
    listed = running.run("list", "--device", "cli", "--status", "active", "--severity", "warning")
    assert alarm in listed and "High temperature alert: cli" in listed
    assert alarm not in running.run("list", "--rule", "other")
    output = await asyncio.to_thread(running.run, "acknowledge", alarm[:13], "--note", "mine", "--actor", "me")
    assert output == f"{alarm} is acknowledged: High temperature alert: cli\n"
    output = await asyncio.to_thread(running.run, "snooze", alarm, "2h")
    assert "is snoozed until" in output
    expected = [("acknowledged", "me", "mine"), ("snoozed", getpass.getuser(), None)]

    async def is_recorded() -> bool:
        timeline = await ask("GET", f"/v1/iot/alarms/{alarm}/timeline")
        return [(entry["event_type"], entry["actor"], entry["note"]) for entry in timeline[-2:]] == expected

    await eventually(is_recorded, 90, running.logs)

    asked = time.monotonic()
    output = await asyncio.to_thread(running.run, "acknowledge", alarm, "--wait", "60", status=1)
    assert "cannot acknowledge: the alarm is already acknowledged" in output
    assert time.monotonic() - asked < 30, "at once, and not when the time is over"

    async def is_published() -> bool:
        published = await asyncio.to_thread(shows, alarm)
        return published is not None and published["status"] != "active"

    await eventually(is_published, 90, running.logs)
    assert "no alarm has an id" in running.run("show", "ffffffff-none", status=1)
    assert "too short" in running.run("show", "f", status=1)
    assert f"{alarm} is snoozed until" in await asyncio.to_thread(running.run, "snooze", "--device", "cli", "-y", "90m")
    assert "by their ids, or choose" in running.run("resolve", status=1)
    assert "by their ids, or choose" in running.run("resolve", alarm, "--device", "cli", status=1)
    assert "no alarm to resolve matches" in running.run("resolve", "--device", "nobody", "--yes", status=1)
    assert "is not a span of time" in running.run("snooze", alarm, "long", status=1)
    everything = json.loads(running.run("list", "--all", "--limit", "0", "--json"))
    assert [row["status"] for row in everything if row["alarm_id"] == alarm] == ["acknowledged"]
    assert f"1 of {len(everything)}" in running.run("list", "--all", "--limit", "1") or len(everything) == 1
    summary = json.loads(running.run("summary", "--json"))
    assert summary["active_total"] >= 1 and "acknowledged" in running.run("summary")
    for action, made in (("resolve", "resolved"), ("reopen", "active"), ("resolve", "resolved")):
        output = await asyncio.to_thread(running.run, action, alarm)
        assert f"{alarm} is {made}" in output, "it reads what the command before has written"
    ghost = wire.AlarmAction(str(uuid4()), str(uuid4()), "wayscloud:nobody", "resolve", "me", datetime.now(UTC))
    nobody = KnownAlarm(ghost.alarm_id, ghost.device_id, "none", datetime.now(UTC), "active")
    assert await act({"bootstrap_servers": running.kafka}, ghost, nobody, 1.0) == (None, None)


async def test_two_services_that_are_killed_leave_every_event_once(running: Running) -> None:
    """One database, two services that both read, two kills while events come in transactions, some aborted."""
    url = f"sqlite:///{running.folder / 'shared.db'}"
    state = {"FLEETLAKE_ALARMS__DATABASE_URL": url, "FLEETLAKE_ALARMS__PORT": "0"}
    services = [running.start("alarms", "serve", **state) for _ in range(2)]
    names = [str(uuid4()) for _ in range(8)]
    enough = asyncio.Event()
    database = open_alarm_database(url, running.folder / "unused.db")

    def stored() -> Counter[tuple[str, int]]:
        alarms, _ = database.alarms.page(AlarmFilter(), 1, 10_000)
        names = [each.alarm.alarm_id for each in alarms]
        return Counter((name, entry.sequence) for name in names for entry in database.alarms.timeline(name))

    async def write() -> None:
        async with AIOKafkaProducer(bootstrap_servers=running.kafka, transactional_id="planted") as producer:
            for sequence in itertools.count(1):
                for abort in (True, False) if sequence % 5 == 0 else (False,):
                    await producer.begin_transaction()
                    for name in names:
                        planted = event(name, sequence, device=f"ogmen:{name}")
                        await producer.send(ALARMS, wire.encode(planted), key=planted.alarm.device_id.encode())
                    await (producer.abort_transaction() if abort else producer.commit_transaction())
                if enough.is_set():
                    return
                await passing(0.1, "so that the services have several batches to store")

    async def until_serving(*some: subprocess.Popen[bytes]) -> None:
        await eventually(
            lambda: all("/v1/iot/alarms" in running.log_of(service) for service in some), what=running.logs
        )
        known = len(stored())  # with both at work, some is written and stored
        await eventually(lambda: len(stored()) > known, what=running.logs)

    writing = asyncio.create_task(write())
    await until_serving(*services)
    for kill in range(2):
        services[kill % 2].send_signal(signal.SIGKILL)
        services[kill % 2].wait()
        services[kill % 2] = running.start("alarms", "serve", **state)
        await until_serving(services[kill % 2])
    # both have stored, each what the other had not
    await eventually(lambda: "continuing behind it" in running.logs(), 60, running.logs)
    enough.set()
    await writing
    written = [r for records in (await read_all(running.kafka, ALARMS, PARTITIONS)).values() for r in records]
    events = [wire.decode_alarm_event(record.value or b"") for record in written]
    expected = Counter((each.alarm.alarm_id, each.sequence) for each in events)
    assert set(expected.values()) == {1}
    of_first = max(sequence for name, sequence in expected if name == names[0])
    assert of_first > 20 and expected.keys() >= {(name, n) for name in names for n in range(1, of_first + 1)}
    await eventually(lambda: stored() == expected, what=running.logs)
    database.close()
    for service in services:
        service.terminate()
        assert service.wait(20) == 0, running.logs()
