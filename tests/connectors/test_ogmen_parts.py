"""The parts of Ogmen's connector, each by itself: outages, failing endpoints, registry, reader. No cloud, no Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from connectors.common.http_client import VendorError
from connectors.ogmen.cloud import Cloud, Outage, loggable
from connectors.ogmen.endpoint_reader import EndpointReader
from connectors.ogmen.endpoints import BATTERY, LOGS, PRIVACY
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.polling import RestPoller, WithoutRest
from connectors.ogmen.protocol import AnswerError
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings
from tests.connectors.recording import PartialOwnership, RecordingPublisher, recording_context
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 30, 10, 0, tzinfo=UTC)
SYSTEM_USAGE = next(e for e in LOGS if e.name == "system_usage")
CONNECTIVITY = next(e for e in LOGS if e.name == "connectivity")


# -- outages and failing endpoints


def test_three_failures_in_a_row_make_an_outage_and_its_gap_begins_with_the_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outage = Outage("api.test")
    outage.failed(NOW, "no answer")
    outage.failed(NOW, "no answer")
    assert outage.answered(NOW) is None and not caplog.records
    for second in range(4):
        outage.failed(NOW + timedelta(seconds=second), "HTTP 503")
    assert outage.is_down
    gap = outage.answered(NOW + timedelta(seconds=9))
    assert gap is not None and (gap.start, gap.end, gap.reason) == (NOW, NOW + timedelta(seconds=9), "HTTP 503")
    assert not outage.is_down and outage.answered(NOW) is None
    assert len(caplog.records) == 2


def test_an_endpoint_is_logged_when_its_first_target_fails_and_its_last_recovers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    failing = FailingEndpoints()
    failing.succeeded("battery", "a")
    failing.failed("battery", "a", "HTTP 404", "; a hint")
    failing.failed("battery", "b", "HTTP 500")
    failing.succeeded("battery", "a")
    assert [r.getMessage() for r in caplog.records] == [
        "ogmen: cannot read battery at a (HTTP 404); trying again; a hint"
    ]
    failing.succeeded("battery", "b")
    failing.succeeded("battery", "b")
    assert [r.getMessage() for r in caplog.records][1:] == ["ogmen: reading battery again"]


def test_the_vendors_words_are_not_logged() -> None:
    assert loggable(VendorError("HTTP 404, a person's name", 404)) == "HTTP 404"
    assert loggable(VendorError("x")) == "no answer"
    assert loggable(AnswerError("our own words")) == "our own words"


# -- registry


async def test_the_registry_holds_the_owned_robots_of_configuration_and_accounts(tmp_path: Path) -> None:
    ownership = PartialOwnership(["ogmen:a", "ogmen:c"])
    registry = RobotRegistry(
        OgmenSettings(devices=["a", "b"]), recording_context(RecordingPublisher(), tmp_path, ownership)
    )
    registry.update()
    assert registry.robots.keys() == {"a"}
    robot = registry.robots["a"]
    registry.set_account("1", {"c", "d"})
    assert registry.robots.keys() == {"a", "c"} and registry.robots["a"] is robot
    registry.set_account("1", set())
    assert registry.robots.keys() == {"a"}
    ownership.set(["ogmen:b"])
    registry.update()
    assert registry.robots.keys() == {"b"}


@pytest.mark.parametrize(("api_url", "private"), [("http://api.test", True), ("", False)])
async def test_the_privacy_mode_of_another_processs_robot_counts_as_on_where_it_can_be_on(
    tmp_path: Path, api_url: str, private: bool
) -> None:
    settings = OgmenSettings(devices=["mine", "theirs"], api_url=api_url)
    registry = RobotRegistry(
        settings, recording_context(RecordingPublisher(), tmp_path, PartialOwnership(["ogmen:mine"]))
    )
    registry.update()
    assert registry.is_private("theirs") is private
    assert not registry.is_private("a stranger")
    registry.robots["mine"].gate.observe(False, NOW)
    assert not registry.is_private("mine")


async def test_without_rest_the_configuration_is_published(tmp_path: Path) -> None:
    publisher = RecordingPublisher()
    registry = RobotRegistry(OgmenSettings(devices=["a"]), recording_context(publisher, tmp_path))
    registry.update()
    await WithoutRest(registry).ownership_changed()
    assert [d.device_id for d in publisher.devices] == ["ogmen:a"]


async def test_the_state_file_of_a_robot_keeps_the_names_of_earlier_versions(tmp_path: Path) -> None:
    settings = OgmenSettings()
    robot = Robot.load("r", settings.sampling, tmp_path)
    content = {
        "device_id": "ogmen:r",
        "told": {"activity": [["version", "2026-03-30T10:00:00Z"], ["untimed", ""]]},
        "privacy": {"since": None, "spans": [["2026-03-30T09:00:00Z", "2026-03-30T09:30:00Z"]]},
        "privacy_version": "a:b",
    }
    robot.file.write(content)
    restored = Robot.load("r", settings.sampling, tmp_path)
    assert "version" in restored.seen_of("activity") and restored.seen_of("activity").oldest == NOW
    assert restored.gate.spans == [(NOW - timedelta(hours=1), NOW - timedelta(minutes=30))]
    await restored.save()
    assert restored.file.read() == content


# -- reading endpoints


class FakeCloud:
    """Answers by path, with the parameters of the request."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[dict[str, str]], bytes]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.is_down = False

    async def get(self, path: str, endpoint: str, params: dict[str, str] | None = None) -> bytes:
        self.requests.append((path, params or {}))
        if path not in self.answers:
            raise VendorError(f"{endpoint}: HTTP 404", 404)
        return self.answers[path](params or {})


class Parts:
    """One robot `r`, its reader, and what was published."""

    def __init__(self, folder: Path, **settings: int) -> None:
        self.fake, self.publisher = FakeCloud(), RecordingPublisher()
        self.settings = OgmenSettings(devices=["r"], api_url="http://api.test", **settings)  # type: ignore[arg-type]
        self.context = recording_context(self.publisher, folder)
        self.registry = RobotRegistry(self.settings, self.context)
        self.registry.update()
        self.robot: Robot = self.registry.robots["r"]
        self.robot.gate.observe(False, NOW)
        cloud = cast(Cloud, self.fake)
        self.reader = EndpointReader(self.settings, self.context, cloud, self.registry, FailingEndpoints())
        self.poller = RestPoller(self.settings, cloud, self.registry, self.reader)


def log(numbers: range) -> Callable[[dict[str, str]], bytes]:
    """A log of these entries, newest first, of which as many are answered as are asked for."""
    entries = [
        {"log_id": n, "timestamp": (NOW + timedelta(minutes=n)).isoformat(), "cpu_usage_percent": n} for n in numbers
    ][::-1]
    return lambda params: json.dumps(entries[: int(params["no_of_logs"])]).encode()


async def test_new_entries_are_published_oldest_first_and_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, log_entries=4)
    path = "/system_usage_logs/r"
    for upto in (3, 3, 5):
        parts.fake.answers[path] = log(range(upto))
        await parts.reader.read(parts.robot, SYSTEM_USAGE)
    assert [json.loads(e.data)["log_id"] for e in parts.publisher.envelopes] == [0, 1, 2, 3, 4]
    assert [params["no_of_logs"] for _, params in parts.fake.requests] == ["4", "4", "4"]


async def test_more_entries_are_requested_until_the_answer_reaches_a_seen_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path, log_entries=2, most_log_entries=20)
    path = "/system_usage_logs/r"
    parts.fake.answers[path] = log(range(3))
    await parts.reader.read(parts.robot, SYSTEM_USAGE)
    parts.fake.answers[path] = log(range(12))
    await parts.reader.read(parts.robot, SYSTEM_USAGE)
    assert [params["no_of_logs"] for _, params in parts.fake.requests] == ["2", "2", "8", "20"]
    published = [json.loads(e.data)["log_id"] for e in parts.publisher.envelopes]
    assert published == [1, 2, *range(3, 12)], "entry 0 is older than every seen one: it is not published late"


async def test_a_change_of_book_keeping_is_marked_and_a_change_of_content_is_not(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    entry = {"log_id": 1, "recorded_at": NOW.isoformat(), "signal_strength": -60, "is_synced": False}
    for change in ({}, {"is_synced": True}, {"signal_strength": -61}):
        entry |= change
        body = json.dumps([entry]).encode()
        parts.fake.answers["/connectivity_logs/r"] = lambda _, body=body: body  # type: ignore[misc]
        await parts.reader.read(parts.robot, CONNECTIVITY)
    assert [e.attributes.get("changed") for e in parts.publisher.envelopes] == [None, "is_synced,synced_at", None]


async def test_an_unusable_answer_becomes_one_dead_letter_until_it_changes(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    for body in (b"[1]", b"[1]", b"[2]"):
        parts.fake.answers["/battery_status/r"] = lambda _, body=body: body  # type: ignore[misc]
        await parts.reader.read(parts.robot, BATTERY)
    assert [(d.problems[0].reason, d.payload_bytes) for d in parts.publisher.dead_letters] == [("bad_answer", 3)] * 2


async def test_each_change_of_the_privacy_mode_is_published_once_also_over_a_restart(tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(2):
        parts = Parts(tmp_path)
        for mode in ("true", "true", "false"):
            body = b'{"privacy_mode_enabled": %s}' % mode.encode()
            parts.fake.answers["/privacy_mode/r"] = lambda _, body=body: body  # type: ignore[misc]
            await parts.reader.read(parts.robot, PRIVACY)
        assert parts.robot.gate.on is False
        await parts.robot.save()
        ids += [e.id for e in parts.publisher.envelopes]
    assert len(ids) == len(set(ids)) == 4, "«on» after «off» is no duplicate"


# -- polling


async def test_while_the_api_is_down_single_requests_probe_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.fake.is_down = True
    await parts.poller._read_all((BATTERY, PRIVACY))
    assert [path for path, _ in parts.fake.requests] == ["/battery_status/r"]


async def test_the_privacy_mode_is_read_first_while_it_is_not_known(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.robot.gate.on = None
    await parts.poller._read_all((BATTERY,))
    assert [path for path, _ in parts.fake.requests] == ["/privacy_mode/r", "/battery_status/r"]
    parts.fake.requests.clear()
    parts.robot.gate.observe(False, NOW)
    await parts.poller.read_privacy(parts.robot)
    assert parts.fake.requests == [], "it is known"


async def test_a_robot_with_a_gap_is_read_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    task = asyncio.create_task(parts.poller._run_resynchronisation())
    parts.poller.resynchronise(parts.robot)
    await eventually(lambda: len(parts.fake.requests) >= 2 + len(LOGS))
    task.cancel()
