"""The dead letters of connectors."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from connectors.common.dead_letters import Digest, MessageSource, dead_letter, too_large, unparsable
from schemas.envelope import Envelope
from schemas.redact import NotJson
from schemas.wire import Problem

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROBOT = "karcher:1.533-002.0/000001"
PAYLOAD = b'{"pinCode": "1234", "docked": true'
PROBLEM = Problem(path="docked", reason="wrong_type", detail="a boolean is due")
SOURCE = MessageSource("karcher", "karcher.status", NOW, ROBOT)


def test_a_dead_letter_says_what_came_and_what_is_wrong_without_secrets() -> None:
    letter = dead_letter(PAYLOAD, SOURCE, PROBLEM)
    assert (letter.stage, letter.received_at, letter.problems) == ("connector", NOW, [PROBLEM])
    assert (letter.device_id, letter.vendor, letter.message_type) == (ROBOT, "karcher", "karcher.status")
    assert (letter.payload_bytes, letter.payload_sha256) == (len(PAYLOAD), hashlib.sha256(PAYLOAD).hexdigest())
    assert letter.payload is not None
    assert "1234" not in letter.payload and "docked" in letter.payload


def test_the_digest_is_of_the_whole_message_where_only_its_beginning_is_at_hand() -> None:
    whole = Digest.of(b"x" * 10_000)
    letter = dead_letter(b"x" * 10, SOURCE, PROBLEM, digest=whole)
    assert (letter.payload_bytes, letter.payload_sha256) == (10_000, hashlib.sha256(b"x" * 10_000).hexdigest())


def test_a_redacted_payload_is_kept_whole() -> None:
    payload = b'{"machineId": "' + b"k" * 20_000 + b'"}'
    assert dead_letter(payload, SOURCE, PROBLEM, redacted=True).payload == payload.decode()
    assert len(dead_letter(payload, SOURCE, PROBLEM).payload or "") < 20_000


def test_the_id_tells_messages_apart_by_all_that_identifies_them() -> None:
    later, nobody = NOW + timedelta(microseconds=1), MessageSource("karcher", "karcher.status", NOW)
    letters = [
        dead_letter(PAYLOAD, SOURCE, PROBLEM),
        dead_letter(PAYLOAD + b" ", SOURCE, PROBLEM),
        dead_letter(PAYLOAD, nobody, PROBLEM),
        dead_letter(PAYLOAD, MessageSource("karcher", "karcher.status", later, ROBOT), PROBLEM),
        dead_letter(PAYLOAD, MessageSource("karcher", "karcher.datapoints", NOW, ROBOT), PROBLEM),
        dead_letter(PAYLOAD, MessageSource("ogmen", "karcher.status", NOW, ROBOT), PROBLEM),
    ]
    assert len({letter.id for letter in letters}) == len(letters)
    assert letters[0].id == dead_letter(PAYLOAD, SOURCE, PROBLEM).id


def test_a_payload_that_is_no_json_says_why() -> None:
    [problem] = unparsable(b"\xff", NotJson("not_utf8", "byte 0"), SOURCE).problems
    assert (problem.path, problem.reason) == ("", "not_utf8")
    assert "byte 0" in (problem.detail or "")


def test_an_envelope_beyond_kafkas_limit_says_how_large_it_is() -> None:
    envelope = Envelope("id", "karcher.datapoints", "karcher/websocket", ROBOT, NOW, b"x" * 900)
    letter = too_large(envelope, 800)
    [problem] = letter.problems
    assert (problem.path, problem.reason, problem.detail) == ("", "too_large", "900 bytes; the limit is 800")
    assert (letter.vendor, letter.message_type, letter.device_id) == ("karcher", "karcher.datapoints", ROBOT)
    assert letter.received_at == NOW
