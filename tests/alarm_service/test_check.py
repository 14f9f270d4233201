"""`fleetlake check` of the alarm service: what fails is named with its key; nothing is made, nothing is sent."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from alarm_service.check import KnownNames, check
from alarm_service.notify.settings import NotifySettings
from alarm_service.service import SERVED
from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import open_alarm_database
from runtime.http_server import serving
from runtime.ports import free_port
from schemas.words import KeyRole
from tests.alarm_service.notifying import receiving, settings, webhook

NOTHING = NotifySettings()
KNOWN = KnownNames(rules=["of-file"], rules_in_kafka=["of-kafka"], groups=["hall"], profiles=["robots"])


async def results_of(
    alarms: AlarmsSettings, notify: NotifySettings, data: Path, known: KnownNames = KNOWN, send: bool = False
) -> dict[str, tuple[bool, str]]:
    return {each.name: (each.ok, each.detail) for each in await check(alarms, notify, data, known, send=send)}


async def test_what_is_off_is_said_to_be_off(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        results = await results_of(AlarmsSettings(port=taken.getsockname()[1]), NOTHING, tmp_path)
    ok, detail = results.pop("alarm service")
    assert ok and "enabled in [alarms] is false" in detail and not results


async def test_the_port_is_free_ours_or_taken(tmp_path: Path) -> None:
    port = free_port()
    settings = AlarmsSettings(enabled=True, port=port)
    assert (await results_of(settings, NOTHING, tmp_path))["alarms: host, port"] == (True, f"127.0.0.1:{port} is free")
    for what, ok in ((SERVED, True), ("climasense", False)):
        app = web.Application()
        async with serving(app, "127.0.0.1", port, what):
            result = (await results_of(settings, NOTHING, tmp_path))["alarms: host, port"]
        assert result == (ok, f"127.0.0.1:{port}: {what} serves there")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not (await results_of(settings, NOTHING, tmp_path))["alarms: host, port"][0]
    elsewhere = AlarmsSettings(enabled=True, host="192.0.2.1", port=port)
    assert not (await results_of(elsewhere, NOTHING, tmp_path))["alarms: host, port"][0]


async def test_the_database_is_looked_at_and_left_alone(database_url: str | None, tmp_path: Path) -> None:
    alarms = AlarmsSettings.model_validate({"enabled": True, "port": free_port(), "database_url": database_url})
    name = "alarms: database_url" if database_url else "alarms: database"
    file = tmp_path / "state" / "alarms.db"
    ok, detail = (await results_of(alarms, NOTHING, tmp_path))[name]
    assert ok and "will be created" in detail and not list(tmp_path.iterdir())
    with closing(open_alarm_database(database_url, file)) as database:
        ok, detail = (await results_of(alarms, NOTHING, tmp_path))[name]
        assert ok and "0 API key(s) in force: every request gets 401" in detail
        database.keys.create("me", KeyRole.READ, datetime.now(UTC))
        assert (await results_of(alarms, NOTHING, tmp_path))[name] == (True, "1 API key(s) in force")
        for version, expected in ((1, (True, "will be upgraded from schema 1 to 2")), (99, None)):
            with database.engine.begin() as tx:
                tx.execute(sa.text(f"UPDATE meta SET value = {version} WHERE name = 'schema'"))
            ok, detail = (await results_of(alarms, NOTHING, tmp_path))[name]
            assert (ok, detail) == expected if expected else (not ok and "schema 99, this program 2" in detail)
            with database.engine.begin() as tx:
                assert tx.scalar(sa.text("SELECT value FROM meta WHERE name = 'schema'")) == version


async def test_a_database_that_cannot_be_had_is_said_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://me:hush@127.0.0.1:{free_port()}/x"
    alarms = AlarmsSettings.model_validate({"port": free_port(), "database_url": url})
    ok, detail = (await results_of(alarms, NOTHING, tmp_path))["alarms: database_url"]
    assert not ok and "cannot be used" in detail and "hush" not in detail
    (tmp_path / "state").write_text("a file, where a folder is to be")
    ok, detail = (await results_of(AlarmsSettings(enabled=True, port=free_port()), NOTHING, tmp_path))[
        "alarms: database"
    ]
    assert not ok and "is not a writable folder" in detail


async def test_receivers_are_reached_and_told_nothing_unless_asked(tmp_path: Path) -> None:
    alarms, port = AlarmsSettings(port=free_port()), free_port()
    mail = {"host": "127.0.0.1", "port": port, "sender": "a@b.c", "recipients": ["d@e.f"], "allow_private": True}
    async with receiving() as receiver:
        channels: dict[str, Any] = {
            "ops": webhook(f"{receiver.url}/token-in-the-path"),
            "private": webhook(receiver.url, allow_private=False),
            "nowhere": webhook(f"https://{'x' * 64}.example"),
            "mail": {"channel_type": "email", "config": mail},
            "off": {**webhook("https://example.com"), "is_enabled": False},
        }
        results = await results_of(alarms, settings(channels, {}), tmp_path)
        assert results["notify: channel ops"] == (
            True,
            f"{receiver.url.removeprefix('http://')} answers; nothing was sent",
        )
        for name, part in (
            ("private", "[notify.channels.private.config] url: 127.0.0.1"),
            ("private", "set allow_private = true"),
            ("nowhere", "[notify.channels.nowhere.config] url: xxx"),
            ("nowhere", "has no address"),
            ("mail", f"[notify.channels.mail.config] host, port: 127.0.0.1:{port}: "),
        ):
            ok, detail = results[f"notify: channel {name}"]
            assert not ok and part in detail, detail
        assert results["notify: channel off"][0] and not receiver.got
        assert "token-in-the-path" not in str(results)
        results = await results_of(alarms, settings(channels, {}), tmp_path, send=True)
        assert results["notify: channel ops"] == (True, "HTTP 200")
        assert [each.json["type"] for each in await receiver.wait(1)] == ["test"]
        receiver.answer = lambda number, request: web.Response(status=410, text="gone")
        ok, detail = (await results_of(alarms, settings(channels, {}), tmp_path, send=True))["notify: channel ops"]
        assert not ok and detail.startswith("[notify.channels.ops.config] url: ") and "HTTP 410: gone" in detail


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"rule_ids": ["of-file", "of-kafka", "wayscloud:r1"]}, None),
        ({"rule_ids": ["of-file", "nope"]}, "rule_ids: there is no rule 'nope'"),
        ({"scope_type": "group", "scope_ids": ["hall"]}, None),
        ({"scope_type": "group", "scope_ids": ["cellar"]}, "scope_ids: there is no group 'cellar' in [stream] groups"),
        ({"scope_type": "profile", "scope_ids": ["hall"]}, "scope_ids: there is no profile 'hall'"),
        ({"scope_type": "vendor", "scope_ids": ["acme"]}, "scope_ids: unknown vendor 'acme'"),
        ({"scope_type": "device", "scope_ids": ["ogmen:1", "2"]}, "scope_ids: '2' is not a device id"),
        ({"channel_ids": ["off"]}, "channel_ids: none of the channels is enabled"),
        ({"rule_ids": ["nope"], "is_enabled": False}, None),
    ],
)
async def test_policies_that_speak_of_what_is_not_there(
    policy: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    off = {**webhook("https://example.com"), "is_enabled": False}
    async with receiving() as receiver:
        channels = {"ops": webhook(receiver.url), "off": off}
        notify = settings(channels, {"p": {"channel_ids": ["ops"], **policy}})
        results = await results_of(AlarmsSettings(port=free_port()), notify, tmp_path)
    ok, detail = results["notify: policy p"]
    assert ok is (reason is None)
    assert reason is None or f"[notify.policies.p] {reason}" in detail


async def test_rules_are_not_judged_by_a_kafka_that_is_away(tmp_path: Path) -> None:
    async with receiving() as receiver:
        notify = settings({"ops": webhook(receiver.url)}, {"p": {"channel_ids": ["ops"], "rule_ids": ["r"]}})
        results = await results_of(AlarmsSettings(port=free_port()), notify, tmp_path, KnownNames(rules_in_kafka=None))
    ok, detail = results["notify: policy p"]
    assert not ok and "[notify.policies.p] rule_ids: 'r' is not in the rules file, and Kafka" in detail
