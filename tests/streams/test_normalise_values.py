"""Reading single values: numbers, ratios, durations, times, angles, units."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.units import UNITS, ucum_code
from streams.normalise.units import convert
from streams.normalise.values import (
    Divided,
    FieldError,
    boolean,
    load_json,
    moment,
    number,
    percent,
    seconds,
    text,
    wrap_degrees,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE)
def test_a_number_is_itself_as_number_and_as_text(value: float) -> None:
    assert number(value) == value
    assert number(repr(value)) == value


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_ratio_is_scaled_in_decimal(digits: int, places: int) -> None:
    written = Decimal(digits).scaleb(-places)
    assert percent(format(written, "f")) == float(written * 100)
    assert percent(float(written)) == float(written * 100)


@given(st.one_of(st.integers(-(10**15), 10**15), FINITE))
def test_division_is_decimal_for_integers_and_floats(value: float) -> None:
    assert Divided(1000)(value) == float(Decimal(repr(value)) / 1000)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-inf", "1e999", math.nan, math.inf, 10**400, "9" * 350])
def test_what_is_not_finite_is_no_number(value: Any) -> None:
    with pytest.raises(FieldError) as error:
        number(value)
    assert error.value.reason == "not_finite"


@pytest.mark.parametrize("value", [True, False, "", "half", "1,5", "0x10", "1_000", [], {}, "٣", "1e", "9" * 500])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(FieldError) as error:
        number(value)
    assert error.value.reason == "wrong_type"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("PT4H12M45S", 15165.0),
        ("P1DT1S", 86401.0),
        ("PT0.5S", 0.5),
        ("P1W", 604800.0),
        ("P2W3DT4H5M6.5S", 1483506.5),
        ("+PT1,5M", 90.0),
        ("-1:00:01", -3601.0),
        ("2 days, 0:00:01", 172801.0),
        ("-PT1M", -60.0),
        ("98:53:50.295718", 356030.295718),
        ("810:42:47.266423", 2918567.266423),
        ("1 day, 2:03:04", 93784.0),
        ("00:00:00", 0.0),
        (356030, 356030.0),
        ("356030", 356030.0),
    ],
)
def test_durations(written: Any, expected: float) -> None:
    assert seconds(written) == expected


@pytest.mark.parametrize("written", ["P", "PT", "P1Y", "1:99:00", "soon", "1:2", "P" + "1" * 200 + "D"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(FieldError):
        seconds(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3000)))
def test_a_duration_is_the_same_by_clock_and_iso(duration: timedelta) -> None:
    whole, rest = divmod(duration // timedelta(microseconds=1), 1_000_000)
    clock = f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}.{rest:06d}"
    iso = f"PT{whole // 3600}H{whole % 3600 // 60}M{whole % 60}.{rest:06d}S"
    assert seconds(clock) == seconds(iso) == float(Decimal(whole) + Decimal(rest) / 1_000_000)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (1773645666755, datetime(2026, 3, 16, 7, 21, 6, 755000, UTC)),
        ("1773645666755", datetime(2026, 3, 16, 7, 21, 6, 755000, UTC)),
        ("2025-09-03T14:06:10.262+03", datetime(2025, 9, 3, 11, 6, 10, 262000, UTC)),
        ("2025-06-10T15:25:06.794977", datetime(2025, 6, 10, 15, 25, 6, 794977, UTC)),
        ("2025-06-10T15:25:06.794977123Z", datetime(2025, 6, 10, 15, 25, 6, 794977, UTC)),
    ],
)
def test_times(written: Any, expected: datetime) -> None:
    assert moment(written) == expected


@pytest.mark.parametrize(
    "written", [True, "soon", "", "2025-13-01T00:00:00Z", 1e300, -(10**30), [], "0001-01-01T00:00:00+10"]
)
def test_what_is_no_time_is_refused(written: Any) -> None:
    with pytest.raises(FieldError) as error:
        moment(written)
    assert error.value.reason == "bad_time"


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1)))
def test_a_time_is_the_same_in_every_zone(at: datetime) -> None:
    utc = at.replace(tzinfo=UTC)
    assert moment(at.isoformat()) == utc
    assert moment(at.isoformat() + "Z") == utc
    shifted = (at + timedelta(hours=3)).isoformat()
    assert moment(shifted + "+03") == moment(shifted + "+0300") == moment(shifted + "+03:00") == utc


@given(st.floats(-1e6, 1e6))
def test_a_wrapped_angle_is_the_same_direction(angle: float) -> None:
    wrapped = wrap_degrees(angle)
    assert -180 < wrapped <= 180
    assert math.isclose(math.cos(math.radians(angle)), math.cos(math.radians(wrapped)), abs_tol=1e-6)
    assert math.isclose(math.sin(math.radians(angle)), math.sin(math.radians(wrapped)), abs_tol=1e-6)


def test_half_a_turn_is_positive() -> None:
    assert wrap_degrees(-180) == wrap_degrees(180) == wrap_degrees(540) == 180


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("False", False), (1, True), (0.0, False), ("1", True)]
)
def test_booleans(value: Any, expected: bool) -> None:
    assert boolean(value) is expected


@pytest.mark.parametrize("value", [2, "yes", [], -1, 0.5])
def test_what_is_no_boolean_is_refused(value: Any) -> None:
    with pytest.raises(FieldError):
        boolean(value)


def test_text_stays_text() -> None:
    assert text("0012") == "0012"
    assert text(44) == "44"


@given(
    st.recursive(
        st.none() | st.booleans() | FINITE | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_read(value: Any) -> None:
    import json

    assert load_json(json.dumps(value).encode()) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        load_json(data)
    except FieldError as error:
        assert error.reason in ("not_json", "not_utf8")


@pytest.mark.parametrize("data", [b"[" * 100_000, b'"\\ud800"', b"\xff", b""])
def test_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(FieldError):
        load_json(data)


@pytest.mark.parametrize("text", ["9" * 5000, "1e999", "1e99999999999999999999", "NaN", '"1e99999999999999999999"'])
def test_a_number_that_no_double_holds_costs_its_field(text: str) -> None:
    value = load_json(f'{{"a":{text},"b":1}}'.encode())
    assert value["b"] == 1
    for parse in (number, percent, seconds):
        with pytest.raises(FieldError, match="not_finite"):
            parse(value["a"])


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        ("72.5", "[degF]", "Cel", 22.5),
        ("-40", "[degF]", "Cel", -40.0),
        ("295.65", "K", "Cel", 22.5),
        ("1.0132", "bar", "hPa", 1013.2),
        ("0.55", "1", "%", 55.0),
        ("1636", "mm", "m", 1.636),
        ("2", "h", "s", 7200.0),
        ("1e-500", "Cel", "K", 273.15),
        ("-1e-500", "[degF]", "Cel", -17.77777777777778),
    ],
)
def test_units_are_converted_exactly(value: str, source: str, target: str, expected: float) -> None:
    assert convert(Decimal(value), source, target) == expected


def test_different_quantities_do_not_convert() -> None:
    with pytest.raises(FieldError) as error:
        convert(Decimal(1), "m", "s")
    assert error.value.reason == "unit"


@given(st.decimals(-1000, 1000, places=3), st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_converting_back_gives_the_same(value: Decimal, source: str, target: str) -> None:
    if UNITS[source].dimension != UNITS[target].dimension:
        return
    there = Decimal(repr(convert(value, source, target)))
    assert math.isclose(convert(there, target, source), float(value), rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("written", "code"),
    [("°C", "Cel"), ("°F", "[degF]"), ("dBm", "dB[mW]"), ("hpa", "hPa"), (" % ", "%"), ("furlong", None)],
)
def test_units_as_people_write_them(written: str, code: str | None) -> None:
    assert ucum_code(written) == code
