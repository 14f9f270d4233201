"""Identities, words, times, topics and levels: what each gives, by example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.coverage import coverage_key
from schemas.derived_ids import derived_id
from schemas.device import device_id, karcher_native_id, quote_id, split_device_id
from schemas.envelope import BackfillWindow, Envelope, EnvelopeError, dedupe_window_seconds, message_id, read_envelope
from schemas.inhibition import levels_of
from schemas.notify_api import DeliveryQuery, query_parameters
from schemas.severity import severity_of_number, severity_of_word
from schemas.timestamps import format_iso, from_micros, from_millis, parse_iso, parse_moment, to_micros
from schemas.topics import MAX_MESSAGE_BYTES, raw_topic, topic_specs, vendor_of_raw_topic
from schemas.words import KeyRole, Severity

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


# -- devices


def test_a_device_id_is_separated_at_its_first_colon() -> None:
    assert device_id("ogmen", "a:b /c") == "ogmen:a:b /c"
    assert split_device_id("ogmen:a:b /c") == ("ogmen", "a:b /c")
    assert karcher_native_id("1.454-500.0", "002005") == "1.454-500.0/002005"
    assert quote_id("karcher:1.454-500.0/002005 ä") == "karcher%3A1.454-500.0%2F002005%20%C3%A4"


@pytest.mark.parametrize("vendor", ["", "a:b", ":"])
def test_a_vendor_is_a_plain_word(vendor: str) -> None:
    with pytest.raises(ValueError, match="plain word"):
        device_id(vendor, "a")


def test_a_device_needs_a_native_id() -> None:
    with pytest.raises(ValueError, match="native id"):
        device_id("ogmen", "")


@pytest.mark.parametrize("text", ["", "ogmen", "ogmen:", ":a", ":"])
def test_what_is_no_device_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a device id"):
        split_device_id(text)


def test_a_listener_is_known_by_its_subject_and_by_channel_and_process_where_it_has_them() -> None:
    assert coverage_key("karcher:1") == "karcher:1"
    assert coverage_key("karcher:fleetlake", "socket") == "karcher:fleetlake#socket#"
    assert coverage_key("karcher:fleetlake", "socket", "a") == "karcher:fleetlake#socket#a"


# -- parameters of lists


def test_the_parameters_of_the_list_of_deliveries_are_the_fields_of_its_filter() -> None:
    """With the bounds that are enforced, and without the titles that pydantic makes up."""
    parameters = query_parameters()
    assert set(parameters) == set(DeliveryQuery.model_fields)
    for name, parameter in parameters.items():
        schema = DeliveryQuery.model_json_schema()["properties"][name]
        assert parameter == {"schema": {key: value for key, value in schema.items() if key != "title"}}
        assert "title" in schema
    assert parameters["limit"]["schema"] == {"type": "integer", "default": 50, "minimum": 1, "maximum": 500}


# -- derived ids


def test_derived_ids_stay_as_they_are() -> None:
    """Alarms and events on topics have these ids: another one would be another alarm."""
    assert derived_id("alarm", "karcher:a", "1") == "cd44701e-dc5d-5675-943c-e98ba3d35a24"
    assert derived_id("a", "b") != derived_id("ab") != derived_id("ab", "")


def test_message_ids_stay_as_they_are() -> None:
    assert message_id(["a", b"b"]) == message_id([b"a", "b"]) == "3c9d591045bc8876f9d0399bbfb05c6a"
    assert message_id(["ab"]) != message_id(["a", "b"])


# -- severity and roles


def test_severities_are_ours_or_warning_with_the_vendors_word() -> None:
    assert [severity_of_number(number) for number in range(1, 6)] == ["critical", "major", "minor", "warning", "info"]
    assert [severity_of_word(word) for word in ("MAJOR", " info ")] == [("major", None), ("info", None)]
    assert severity_of_word("Severe") == ("warning", "Severe")
    assert severity_of_word(None) == ("warning", "None")
    assert next(iter(Severity)) is Severity.CRITICAL


@pytest.mark.parametrize("number", [0, 6, -1, 5.5])
def test_a_severity_beyond_one_to_five_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        severity_of_number(number)


def test_each_role_may_do_what_those_before_it_may() -> None:
    allowed = {(role, needed) for role in KeyRole for needed in KeyRole if role.may(needed)}
    read, operate, admin = KeyRole
    assert allowed == {
        *((read, read), (operate, read), (operate, operate)),
        *((admin, read), (admin, operate), (admin, admin)),
    }


# -- times


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-28", datetime(2026, 11, 28, tzinfo=UTC)),
        ("2026-11-28T12:00Z", NOON),
        ("2026-11-28t12:00:00z", NOON),
        ("2026-11-28 12:00:00", NOON),
        (" 2026-11-28T12:00:00Z ", NOON),
        ("2026-11-28T15:00:00+03", NOON),
        ("2026-11-28T15:30:00+0330", NOON),
        ("2026-11-28T08:30:00-03:30", NOON),
        ("2026-11-28T12:00:00.5Z", NOON + timedelta(microseconds=500_000)),
        ("2026-11-28T12:00:00,000001Z", NOON + timedelta(microseconds=1)),
        ("2026-11-28T12:00:00.123456789Z", NOON + timedelta(microseconds=123_456)),
        ("2026-11-28T11:59:60Z", NOON),
        ("2026-11-28T11:59:60.25Z", NOON + timedelta(microseconds=250_000)),
        ("2026-11-28T12:34:56.789Z", NOON + timedelta(minutes=34, seconds=56, milliseconds=789)),
    ],
)
def test_times_as_vendors_write_them(text: str, at: datetime) -> None:
    assert parse_iso(text) == parse_moment(text) == at
    assert parse_iso(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["2026-11-28T12:00:61Z", "2026-11-28T24:00:00Z", "2026-13-01", "noon", "2026-11-28T1Z"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_iso(text)


@pytest.mark.parametrize("value", [1_795_867_200_000, 1_795_867_200_000.0, "1795867200000", " 1795867200000.0 "])
def test_epoch_milliseconds_as_number_or_text(value: object) -> None:
    assert parse_moment(value) == NOON


def test_milliseconds_before_the_epoch_and_their_fractions() -> None:
    before = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert (
        parse_moment(-1)
        == parse_moment("-1")
        == parse_moment(" -1.0 ")
        == from_millis(-1)
        == from_millis(-1.0)
        == before
    )
    assert from_millis(1_001) == from_millis(1_001.0) == datetime(1970, 1, 1, 0, 0, 1, 1_000, tzinfo=UTC)


@pytest.mark.parametrize("value", [True, None, [], "1" * 19, "1-2", "1.", "-", "--1", "1 2", "١"])
def test_what_is_no_moment(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_moment(value)


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_and_texts_are_exact(at: datetime) -> None:
    assert from_micros(to_micros(at)) == at
    assert parse_iso(format_iso(at)) == at
    assert format_iso(at.astimezone(timezone(timedelta(hours=-5)))) == format_iso(at)
    assert format_iso(at).endswith("Z")


# -- topics


def test_raw_topics_are_named_by_vendor_and_back() -> None:
    assert raw_topic("karcher") == "telemetry.raw.karcher.v1"
    assert vendor_of_raw_topic("telemetry.raw.karcher.v1") == "karcher"


@pytest.mark.parametrize(
    "topic",
    ["telemetry.raw.karcher.v2", "telemetry.raw..v1", "x.telemetry.raw.karcher.v1", "telemetry.readings.v1", "v1"],
)
def test_other_topics_are_no_raw_topics(topic: str) -> None:
    with pytest.raises(ValueError, match="not a raw topic"):
        vendor_of_raw_topic(topic)


def test_what_each_topic_keeps() -> None:
    """docs/contract.md, «Records and tables»: an operator may read back so many days, or each key's latest record."""
    day = 86_400_000
    specs = {spec.name: spec.config for spec in topic_specs(["acme"])}
    assert {name: config.get("retention.ms") for name, config in specs.items()} == {
        "telemetry.raw.acme.v1": str(7 * day),
        "telemetry.readings.v1": str(7 * day),
        "telemetry.events.v1": str(7 * day),
        "telemetry.alarms.v1": str(30 * day),
        "telemetry.alarm-actions.v1": str(30 * day),
        "telemetry.dead-letter.v1": str(30 * day),
        "fleetlake.state.normalise.v1": str(10 * day),
        "fleetlake.clock.v1": str(day),
        **dict.fromkeys(
            [
                *("telemetry.devices.v1", "telemetry.rules.v1", "telemetry.maintenance.v1"),
                *(
                    "fleetlake.state.alarms.v2",
                    "fleetlake.causes.v1",
                    "fleetlake.coverage.v1",
                    "fleetlake.state.rules.v1",
                ),
                "fleetlake.state.polled.v1",
            ]
        ),
    }
    for config in specs.values():
        assert config["cleanup.policy"] == ("delete" if "retention.ms" in config else "compact")
        assert config["max.message.bytes"] == str(MAX_MESSAGE_BYTES) == "8388608"
        assert config["message.timestamp.after.max.ms"] == str(7 * day), "the clock of a writer may be fast"
    raised = {spec.name: spec.at_least.get("retention.ms") for spec in topic_specs() if len(spec.at_least) > 1}
    assert raised == {"fleetlake.state.normalise.v1": 10 * day}, "longer than raw records, by the window and more"
    assert [spec.name for spec in topic_specs()][:2] == ["telemetry.raw.karcher.v1", "telemetry.raw.ogmen.v1"]


# -- envelopes

ENVELOPE = Envelope("id", "karcher.status", "karcher/rest", "karcher:a", NOON, b"{}", NOON - timedelta(seconds=5))


def test_an_envelope_as_headers() -> None:
    assert ENVELOPE.key == b"karcher:a"
    assert ENVELOPE.headers() == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"id"),
        ("ce_type", b"karcher.status"),
        ("ce_source", b"karcher/rest"),
        ("ce_subject", b"karcher:a"),
        ("ce_receivedat", b"2026-11-28T12:00:00Z"),
        ("content-type", b"application/json"),
        ("ce_time", b"2026-11-28T11:59:55Z"),
    ]


@pytest.mark.parametrize("name", ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_receivedat"])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("empty", [b"", None])
def test_each_required_header_is_missed_by_name(name: str, order: int, empty: bytes | None) -> None:
    headers = [(each, empty if each == name else value) for each, value in ENVELOPE.headers()][::order]
    with pytest.raises(EnvelopeError, match=f"^header {name} is missing$"):
        read_envelope(b"{}", headers)
    with pytest.raises(EnvelopeError, match=f"^header {name} is missing$"):
        read_envelope(b"{}", [each for each in headers if each[0] != name])


@pytest.mark.parametrize("order", [1, -1])
def test_headers_in_any_order_and_case_with_further_attributes(order: int) -> None:
    own = [(name.title(), value) for name, value in ENVELOPE.headers()]
    more = [("ce_mqtttopic", b"a/b"), ("Ce_Empty", None), ("traceparent", b"x")]
    read = read_envelope(None, [*own, *more][::order])
    assert read.attributes == {"empty": "", "mqtttopic": "a/b"}
    assert (read.id, read.type, read.data, read.time) == ("id", "karcher.status", b"", ENVELOPE.time)
    assert read_envelope(b"{}", ENVELOPE.headers()) == ENVELOPE


def test_an_envelope_without_content_type_is_json_and_without_time_has_none() -> None:
    headers = [each for each in ENVELOPE.headers() if each[0] not in ("content-type", "ce_time")]
    assert (read_envelope(b"1", headers).content_type, read_envelope(b"1", headers).time) == ("application/json", None)
    text = [*headers, ("content-type", b"text/plain")]
    assert read_envelope(b"1", text).content_type == "text/plain"


def test_malformed_headers_say_which() -> None:
    for name, value, reason in (
        ("ce_receivedat", b"noon", "ce_receivedat or ce_time"),
        ("ce_time", b"noon", "ce_receivedat or ce_time"),
        ("ce_id", b"\xff", "not UTF-8"),
    ):
        changed = [(each, value if each == name else text) for each, text in ENVELOPE.headers()]
        with pytest.raises(EnvelopeError, match=reason):
            read_envelope(b"", changed)


def test_a_backfill_window_and_its_surroundings() -> None:
    window = BackfillWindow(NOON, NOON + timedelta(minutes=5), 30.0)
    second = timedelta(seconds=1)
    assert [window.contains(at) for at in (NOON - second, NOON, window.end - second, window.end)] == [
        *(False, True, True, False)
    ]
    assert window.context == timedelta(seconds=60)
    edges = (NOON - 61 * second, NOON - 60 * second, window.end + 59 * second, window.end + 60 * second)
    assert [window.contains_with_context(at) for at in edges] == [False, True, True, False]
    assert window.attributes() == {
        "readfrom": "2026-11-28T12:00:00Z",
        "readto": "2026-11-28T12:05:00Z",
        "readreach": "30.0",
    }
    assert BackfillWindow.of(window.attributes()) == window


@pytest.mark.parametrize("kind", ["report", "log", "alert", "notification", "command", "event"])
def test_logs_and_reports_are_recognised_for_a_day(kind: str) -> None:
    assert dedupe_window_seconds(f"acme.{kind}") == 86_400
    assert dedupe_window_seconds(f"acme.{kind}.status") == 600


# -- levels of rules


def test_a_rule_is_one_level_above_its_remote_inhibitors() -> None:
    local = {"a": [], "b": [], "c": [], "d": ["c"], "e": ["gone"]}
    levels, circular = levels_of(local, {"b": ["a"], "c": ["b", "a", "gone"], "e": ["gone"]})
    assert levels == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 0}
    assert circular == set()


def test_rules_that_wait_for_one_another_are_circular_and_have_level_zero() -> None:
    levels, circular = levels_of({"a": [], "b": ["c"], "c": [], "d": []}, {"a": ["b"], "c": ["a"], "d": ["c"]})
    assert circular == {"a", "c"}
    assert levels == {"a": 0, "b": 0, "c": 0, "d": 1}
    levels, circular = levels_of({"a": []}, {"a": ["a"]})
    assert (levels, circular) == ({"a": 0}, {"a"})
