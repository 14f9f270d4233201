"""No payload ends or stalls a connector: it is read, or it is a dead letter, and the next message flows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.climasense import protocol as climasense
from connectors.common.connection_state import ConnectionState
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import admit
from connectors.common.publisher import Publisher
from connectors.common.read_message import ReadMessage
from connectors.karcher import protocol as karcher
from connectors.karcher.sockets import MachineSocket
from connectors.ogmen import protocol as ogmen
from connectors.ogmen.channel import Channel
from connectors.ogmen.endpoints import BATTERY
from connectors.ogmen.privacy import PrivacyGate
from connectors.wayscloud.protocol import PUBLISH, Inbox, Packet
from schemas.climasense import CommandResult, SettingsUpdate
from schemas.envelope import Envelope
from schemas.topics import MAX_MESSAGE_BYTES
from schemas.wire import Origin
from simulators.wayscloud import run_mqtt_broker
from streams.normalise import Normalised, Options, normalise
from tests.connectors.recording import RecordingPublisher, recording_context
from tests.connectors.wayscloud import running, sensors, settings_for, subscribed
from tests.support.tails import RawTail, Tail

NOW = datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
NUMBERS = ["1e999", "NaN", "-Infinity", "1e99999999999999999999", "9" * 5000]
FILTERS = ("devices/+/sensors/#",)


def normalised(envelope: Envelope) -> Normalised:
    return normalise(envelope, Origin("t", 0, 0), Options())


def metrics(result: Normalised) -> list[str]:
    return [reading.metric for reading in result.observation.readings] if result.observation else []


def reasons(result: Normalised) -> list[tuple[str, str]]:
    return [(p.path, p.reason) for p in result.dead_letter.problems] if result.dead_letter else []


def mqtt(payload: bytes, topic: str = "devices/s1/sensors") -> ReadMessage:
    return Inbox(FILTERS).packet(Packet(topic, payload, retain=False, dup=False), NOW)


@pytest.mark.parametrize("number", NUMBERS)
def test_mqtt_a_number_that_no_double_holds_costs_only_its_field(number: str) -> None:
    (envelope,) = mqtt(f'{{"temperature":{number},"humidity":45.2,"pin":1}}'.encode()).envelopes
    assert envelope.content_type == "application/json"
    result = normalised(envelope)
    assert ("environment.humidity" in metrics(result), "environment.temperature" in metrics(result)) == (True, False)
    assert reasons(result) == [("temperature", "not_finite")]


@pytest.mark.parametrize("form", [lambda t: "\ufeff" + t, json.dumps, lambda t: json.dumps(json.dumps(t))])
def test_mqtt_a_pin_is_neither_on_the_raw_topic_nor_in_readings(form: Callable[[str], str]) -> None:
    (envelope,) = mqtt(form('{"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}').encode()).envelopes
    result = normalised(envelope)
    for secret in ("4711", "HomeNet"):
        assert secret.encode() not in envelope.data and secret not in repr(result)
    assert "21.25" in repr(result)


def test_mqtt_a_topic_that_is_not_utf8_is_a_dead_letter() -> None:
    packet = Packet("", b"21", retain=False, dup=False, unreadable_topic=b"devices/\xff\xfe/sensors/temperature")
    (letter,) = Inbox(FILTERS).packet(packet, NOW).dead_letters
    assert [(p.path, p.reason) for p in letter.problems] == [("topic", "not_utf8")]
    assert "devices/\\xff\\xfe/sensors" in letter.problems[0].detail


@pytest.mark.parametrize("number", NUMBERS)
async def test_karcher_a_report_with_such_a_number_is_forwarded(number: str, tmp_path: Path) -> None:
    publisher = RecordingPublisher()
    socket = MachineSocket(
        karcher.Machine("m", "1", "2", karcher.read_machine(MACHINE, NOW).device),
        ConnectionState("karcher", "websocket", "x"),
        None,  # type: ignore[arg-type]  # the cloud is only asked for tokens
        recording_context(publisher, tmp_path),
        None,  # type: ignore[arg-type]
    )
    report = f'{{"reportId":"r-1","battery":{number},"finishedAt":"2026-11-28T01:00:00Z"}}'
    message = f'{{"type":"datapoints","data":{{"cleaningReport":{report}}},"timestamp":1795833000200}}'
    await socket.on_message(message.encode())
    (envelope,) = publisher.envelopes
    assert (envelope.type, envelope.time) == (karcher.REPORT, NOW)
    assert b"r-1" in envelope.data
    await socket.on_message(b'{"type":"datapoints","data":{"robotStatus":"Idle"},"timestamp":1}')
    assert len(publisher.envelopes) == 2, "and the next one flows"


MACHINE = b'{"machineId":"m","generic":{"materialNumber":"1","serialNumber":"2"}}'


@pytest.mark.parametrize("number", NUMBERS)
def test_karcher_one_machine_costs_no_other_of_a_page(number: str) -> None:
    item = '{"machineId":"%s","states":[],"odd":%s,"lastContact":"2026-11-28T01:00:00Z"}'
    items = [item % ("a", number), item % ("b", "0.50")]
    listed = f"[{','.join(items)}]"
    for body in (f'{{"data":{listed},"pageInfo":{{"hasNextPage":true,"endCursor":"c"}}}}', listed):
        for prefix in ("", "\ufeff"):
            page = karcher.read_page((prefix + body).encode())
            assert len(page.items) == 2
            devices = {"a": "karcher:a", "b": "karcher:b"}
            assert [len(karcher.status(i, devices, NOW).envelopes) for i in page.items] == [1, 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_ogmen_one_field_costs_no_other(number: str) -> None:
    gate = PrivacyGate(on=False)
    body = f'{{"code":200,"status":"success","data":[{{"battery_level":80,"odd":{number}}},{{"battery_level":81}}]}}'
    entries = ogmen.entries(body.encode())
    envelopes = [ogmen.read_entry(BATTERY, e, "ogmen:r", NOW, gate).message.envelopes for e in entries]
    assert [len(found) for found in envelopes] == [1, 1]
    assert "battery.level" in metrics(normalised(envelopes[0][0]))
    channel = Channel("ogmen:r")
    sent = f'\ufeff{{"topic":"battery","percentage":{number},"voltage":12.5,"wifi_ssid":"HomeNet"}}'.encode()
    (envelope,) = channel.message(sent, NOW).envelopes
    assert b"HomeNet" not in envelope.data


@pytest.mark.parametrize("number", NUMBERS)
def test_climasense_takes_the_other_readings_and_names_the_field_elsewhere(number: str) -> None:
    body = f'{{"readings":[{{"sensor_type":"temperature","value":{number}}},{{"sensor_type":"humidity","value":40}}]}}'
    taken = climasense.telemetry(body.encode(), "climasense:d", NOW, 0)
    assert taken.accepted == 1
    result = normalised(taken.envelope)
    assert metrics(result) == ["environment.humidity"]
    assert [reason for _, reason in reasons(result)] == ["not_finite"]
    for sent, model, path in (
        (f'{{"location":{{"latitude":{number}}}}}', SettingsUpdate, "location.latitude"),
        (f'{{"command_id":"c","status":"acked","result":{{"a":[1,{number}]}}}}', CommandResult, "result.a.1"),
    ):
        with pytest.raises(climasense.InvalidRequest) as refused:
            climasense.parse(sent.encode(), model)
        assert refused.value.path == path


SOURCE = MessageSource("wayscloud", PUBLISH, NOW, "wayscloud:s1")


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), ValueError("pin 4711"), KeyError("x")])
def test_whatever_reading_raises_is_a_dead_letter(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def read() -> ReadMessage:
        raise error

    (letter,) = admit(b'{"pin":"4711"}', SOURCE, read).dead_letters
    assert [(p.reason, p.detail) for p in letter.problems] == [("internal_error", type(error).__name__)]
    assert "4711" not in letter.payload and "4711" not in caplog.text


def test_a_message_that_kafka_would_refuse_is_not_read() -> None:
    def read() -> ReadMessage:
        raise AssertionError("read")

    (letter,) = admit(b" " * (MAX_MESSAGE_BYTES + 1), SOURCE, read).dead_letters
    assert [p.reason for p in letter.problems] == ["too_large"]


HOSTILE = [
    b'{"value":1e999}',
    b'{"pin":1,"value":1e99999999999999999999}',
    b'{"pin":1,"value":' + b"9" * 5000 + b"}",
    b'{"note":"{' + b"pass" * 700 + b'}"}',
    b'{"a":' * 5000,
]


async def test_no_packet_stops_the_packets_behind_it(
    publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    async with (
        run_mqtt_broker() as port,
        running(settings_for(port, mqtt_version="3.1.1"), publisher, tmp_path),
        sensors(port) as send,
    ):
        await subscribed(send, raw)
        await send("devices/hostile/sensors/temperature", *HOSTILE)
        await send("devices/good/sensors/temperature", b"21")
        found = await raw.envelopes(lambda found: any(e.device_id == "wayscloud:good" for e in found))
        letters = await dead_tail.dead_letters(1)
    assert sum(e.device_id == "wayscloud:hostile" for e in found) == len(HOSTILE) - 1
    assert [p.reason for letter in letters for p in letter.problems] == ["not_json"]


@dataclass
class UncheckingBroker:
    """A broker that checks nothing it sends (MQTT 3.1.1, section 3)."""

    to_send: Callable[[int], bytes]
    """What it sends after the subscription, by the number of the connection, from 0."""
    port: int = 0
    acknowledged: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.connections = self.connections, self.connections + 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = await reader.readexactly(2)
                assert length < 128
                body = await reader.readexactly(length)
                match kind >> 4:
                    case 1:
                        writer.write(b"\x20\x02\x00\x00")
                    case 8:
                        writer.write(b"\x90\x03" + body[:2] + b"\x01" + self.to_send(number))
                    case 4:
                        self.acknowledged.put_nowait(struct.unpack("!H", body)[0])
                    case 12:
                        writer.write(b"\xd0\x00")
        writer.close()


@contextlib.asynccontextmanager
async def unchecking_broker(to_send: Callable[[int], bytes]) -> AsyncIterator[UncheckingBroker]:
    broker = UncheckingBroker(to_send)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    async with server:
        yield broker


def published(topic: bytes, number: int, payload: bytes = b"21") -> bytes:
    packet = struct.pack("!H", len(topic)) + topic + struct.pack("!H", number) + payload
    return bytes([0x32, len(packet)]) + packet


async def test_a_packet_that_the_library_cannot_read_ends_the_session_and_the_next_one_works(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    malformed = b"\x32\x03\xff\xffx"  # a topic that is longer than the packet
    good = published(b"devices/after/sensors/t", 7)
    async with (
        unchecking_broker(lambda number: malformed if number == 0 else good) as broker,
        running(settings_for(broker.port, mqtt_version="3.1.1"), publisher, tmp_path),
    ):
        await raw.envelopes(lambda found: any(e.device_id == "wayscloud:after" for e in found))
        async with asyncio.timeout(30):
            assert await broker.acknowledged.get() == 7
    assert broker.connections >= 2


async def test_a_topic_that_is_not_utf8_is_acknowledged_and_the_next_packet_flows(
    publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    packets = [published(b"devices/\xff\xfe/sensors/t", 1), published(b"devices/next/sensors/t", 2)]
    async with (
        unchecking_broker(lambda _: b"".join(packets)) as broker,
        running(settings_for(broker.port, mqtt_version="3.1.1"), publisher, tmp_path),
    ):
        async with asyncio.timeout(30):
            assert [await broker.acknowledged.get(), await broker.acknowledged.get()] == [1, 2]
        await raw.envelopes(lambda found: any(e.device_id == "wayscloud:next" for e in found))
        letters = await dead_tail.dead_letters(1)
    assert {(p.path, p.reason) for letter in letters for p in letter.problems} == {("topic", "not_utf8")}


@pytest.mark.parametrize("payload", [b"ann@example.com is here", b"10.0.0.7", b"HomeNet"])
def test_mqtt_text_whose_beginning_is_hidden_stays_text(payload: bytes) -> None:
    (envelope,) = mqtt(payload, "devices/s1/sensors/" + ("ssid" if payload == b"HomeNet" else "note")).envelopes
    result = normalised(envelope)
    assert result.dead_letter is None and result.observation is not None
    assert str(result.observation.readings[0].value_text).startswith("[redacted]")


def test_ogmen_an_entry_that_is_not_utf8_costs_no_other() -> None:
    first, second = ogmen.entries(b'[{"device_id":"a","model":"\xff"},{"device_id":"b"}]')
    assert (ogmen.native_id_of(first), ogmen.native_id_of(second)) == (None, "b")
    assert ogmen.privacy_status(first) is None
    (letter,) = ogmen.read_entry(BATTERY, first, "ogmen:a", NOW, PrivacyGate(on=False)).message.dead_letters
    assert [p.reason for p in letter.problems] == ["not_utf8"]
