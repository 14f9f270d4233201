"""Everything that reads what a vendor sends: bytes in, what is published of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from pydantic import BaseModel

from connectors.climasense import protocol as climasense
from connectors.common.dead_letters import MessageSource, dead_letter, unparsable
from connectors.common.entrance import Refusal, admit
from connectors.common.read_message import ReadMessage
from connectors.karcher import protocol as karcher
from connectors.ogmen import protocol as ogmen
from connectors.ogmen.account_data import unusable
from connectors.ogmen.channel import CHANNEL, Channel
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.privacy import PrivacyGate
from connectors.wayscloud import objects
from connectors.wayscloud.protocol import PUBLISH, Inbox, Packet
from schemas import climasense as contract
from schemas import wire
from schemas.envelope import BackfillWindow, Envelope
from schemas.json_reading import NotJson
from schemas.redact import excerpt, redact, redact_text
from schemas.topics import raw_topic
from streams.normalise import Options, normalise

NOW = datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
_WINDOW = BackfillWindow(datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC), 60.0)
_DEVICES = {str(number): f"karcher:{number}" for number in range(3)} | {"m": "karcher:m"}


@dataclass(slots=True)
class Outcome:
    """What became of one message: the texts that leave the process, and the problems of its dead letters."""

    shown: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, message: ReadMessage) -> None:
        """Take what is published, and what the normaliser makes of it."""
        for letter in message.dead_letters:
            self._letter(letter)
        for envelope in message.envelopes:
            self.shown += [name + text.decode() for name, text in envelope.headers()]
            self.shown.append(envelope.data.decode())
            vendor = envelope.type.partition(".")[0]
            result = normalise(envelope, wire.Origin(raw_topic(vendor), 0, 0), Options())
            self.shown += [wire.encode(r).decode() for r in (result.observation, result.events) if r is not None]
            if result.dead_letter is not None:
                self._letter(result.dead_letter)

    def _letter(self, letter: wire.DeadLetter) -> None:
        self.shown.append(wire.encode(letter).decode())
        self.reasons += [problem.reason for problem in letter.problems]


Entrance = Callable[[bytes], Outcome]


def _admitted(
    read: Callable[[bytes], ReadMessage], source: MessageSource, payload: bytes, refuse: Refusal = dead_letter
) -> Outcome:
    outcome = Outcome()
    outcome.add(admit(payload, source, partial(read, payload), refuse))
    return outcome


def _source(message_type: str, device: str | None = None) -> MessageSource:
    return MessageSource(message_type.partition(".")[0], message_type, NOW, device)


def _packets() -> Iterator[tuple[str, Entrance]]:
    for topic in ("devices/s1/sensors", "devices/s1/sensors/mode", "devices/s1/sensors/firmware_version"):

        def read(payload: bytes, topic: str = topic) -> ReadMessage:
            return Inbox(("devices/+/sensors/#",)).packet(Packet(topic, payload, retain=False, dup=False), NOW)

        yield f"wayscloud {topic}", partial(_admitted, read, _source(PUBLISH))


def _account_objects(payload: bytes) -> Outcome:
    """WAYSCloud's REST: whatever is no such object is a ValueError, which the pollers expect."""
    outcome = Outcome()
    device = "wayscloud:s1"
    for read in (
        lambda: [objects.health(payload, device, NOW)],
        lambda: objects.stored_telemetry(payload, device, _WINDOW, NOW),
        lambda: [objects.alarm({"device_id": "s1", "id": "a"} | objects.read_object(payload), b"[]", NOW)],
        lambda: [objects.device_values(objects.changed_values(objects.read_object(payload), {}), device, NOW)],
    ):
        _expecting_value_errors(outcome, read)
    try:
        fields = objects.read_object(payload)
    except ValueError:
        return outcome
    outcome.shown.append(wire.encode(objects.device_record(fields | {"device_id": "s1"}, {}, NOW)).decode())
    objects.alarm_signature(fields)
    return outcome


def _expecting_value_errors(outcome: Outcome, read: Callable[[], Iterable[Envelope]]) -> None:
    try:
        envelopes = list(read())
    except ValueError:
        return
    outcome.add(ReadMessage(envelopes))


def _karcher_page(payload: bytes) -> Outcome:
    outcome = Outcome()
    try:
        page = karcher.read_page(payload)
    except karcher.AnswerError:
        return outcome
    for item in page.items[:5]:
        karcher.received_time(item)
        for read in (karcher.status, karcher.notification, karcher.cleaning_report):
            outcome.add(admit(item, _source(karcher.STATUS), partial(read, item, _DEVICES, NOW)))
    return outcome


def _karcher_machine(payload: bytes) -> Outcome:
    outcome = Outcome()
    try:
        outcome.shown.append(wire.encode(karcher.read_machine(payload, NOW).device).decode())
        karcher.read_execution(payload)
    except karcher.AnswerError:
        pass
    return outcome


def _karcher() -> Iterator[tuple[str, Entrance]]:
    source = _source(karcher.DATAPOINTS, "karcher:m")
    yield "karcher socket", partial(_admitted, lambda p: karcher.socket_message(p, "karcher:m", NOW, 1), source)
    source = _source(karcher.COMMAND, "karcher:m")
    yield "karcher execution", partial(_admitted, lambda p: karcher.execution(p, "karcher:m", NOW).message, source)
    yield "karcher page", _karcher_page
    yield "karcher machine", _karcher_machine


def _ogmen_entries(payload: bytes) -> Outcome:
    outcome = Outcome()
    gate = PrivacyGate(on=False)
    try:
        entries = ogmen.entries(payload)
    except ogmen.AnswerError:
        return outcome
    for entry in entries[:5]:
        for endpoint in (ENDPOINTS[0], ENDPOINTS[len(entry) % len(ENDPOINTS)]):
            outcome.add(ogmen.read_entry(endpoint, entry, "ogmen:r", NOW, gate).message)
        ogmen.native_id_of(entry)
        ogmen.privacy_status(entry)
        _expecting_not_json(outcome, entry)
    return outcome


def _expecting_not_json(outcome: Outcome, entry: bytes) -> None:
    try:
        outcome.shown.append(wire.encode(ogmen.device_record(entry, "r", NOW)).decode())
    except NotJson:
        return


def _ogmen_alert(payload: bytes) -> Outcome:
    outcome = Outcome()
    try:
        outcome.add(ReadMessage([ogmen.alert(payload, "r", NOW)]))
    except ogmen.InvalidAlert as error:
        problem = wire.Problem(error.path, error.reason, str(error))
        outcome.add(ReadMessage(dead_letters=[unusable(payload, _source(ogmen.ALERT, "ogmen:r"), problem)]))
    return outcome


def _ogmen() -> Iterator[tuple[str, Entrance]]:
    source = _source(CHANNEL, "ogmen:r")
    yield "ogmen socket", partial(_admitted, lambda p: Channel("ogmen:r").message(p, NOW), source, refuse=unusable)
    yield "ogmen answer", _ogmen_entries
    yield "ogmen alert", _ogmen_alert


def _climasense_telemetry(payload: bytes) -> Outcome:
    outcome = Outcome()
    try:
        taken = climasense.telemetry(payload, "climasense:d", NOW, 1)
    except climasense.InvalidRequest as error:
        return _climasense_refused(payload, error)
    outcome.add(ReadMessage([taken.envelope]))
    return outcome


def _climasense_body(model: type[BaseModel], payload: bytes) -> Outcome:
    outcome = Outcome()
    try:
        climasense.parse(payload, model)
    except climasense.InvalidRequest as error:
        return _climasense_refused(payload, error)
    outcome.add(
        ReadMessage(
            [
                climasense.command_result(payload, "climasense:d", "c", "reboot", NOW),
                climasense.ota_status(payload, "climasense:d", 1, NOW),
            ]
        )
    )
    return outcome


def _climasense_refused(payload: bytes, error: climasense.InvalidRequest) -> Outcome:
    outcome = Outcome()
    clean = climasense.redacted(payload)
    problem = wire.Problem(error.path, error.reason, str(error))
    source = _source(climasense.TELEMETRY, "climasense:d")
    letter = dead_letter(payload if clean is None else clean, source, problem, redacted=clean is not None)
    outcome.add(ReadMessage(dead_letters=[letter]))
    return outcome


def _climasense() -> Iterator[tuple[str, Entrance]]:
    yield "climasense telemetry", _climasense_telemetry
    for model in (contract.SettingsUpdate, contract.CommandResult, contract.OtaStatus, contract.SensorPairing):
        yield f"climasense {model.__name__}", partial(_climasense_body, model)


def _redaction(payload: bytes) -> Outcome:
    outcome = Outcome([excerpt(payload), excerpt(payload, len(payload))])
    for read in (redact, redact_text):
        try:
            clean = read(payload)
        except NotJson as error:
            outcome.add(ReadMessage(dead_letters=[unparsable(payload, error, _source(PUBLISH))]))
            continue
        assert read(clean) == clean, "redacting twice changes something"
        outcome.shown.append(clean.decode())
    return outcome


ENTRANCES: dict[str, Entrance] = dict(
    (
        *_packets(),
        ("wayscloud account", _account_objects),
        *_karcher(),
        *_ogmen(),
        *_climasense(),
        ("redaction", _redaction),
    )
)
"""Every entrance by its name."""
