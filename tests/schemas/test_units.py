"""Units as people write them, and their conversion."""

from __future__ import annotations

import pytest

from schemas.units import UNITS, converted, ucum_code

WRITTEN = """
Cel: °C ℃ c Celsius degC cel
[degF]: °F ℉ f Fahrenheit degF
K: Kelvin k
%: percent %RH rh
dB[mW]: dBm
mm[Hg]: mmHg
[psi]: psi
[in_i'Hg]: inHg
[in_i]: in inch
[ft_i]: ft
[mi_i]: mi
[mi_i]/h: mph
km/h: kph KM/H
s: sec seconds S
min: minutes
h: hours hr
L: liter litre l
mL: ml ML
[gal_us]: gal
V: volt v
By: b by
kBy: kb
MBy: mb
GBy: gb
deg: °
hPa: hpa HPA
"""
ONE_IN_THE_FIRST_OF_ITS_KIND = {
    "1": ("1", 1.0),
    "%": ("1", 0.01),
    "K": ("Cel", -272.15),
    "[degF]": ("Cel", -17.222222222222223),
    "Pa": ("Pa", 1.0),
    "hPa": ("Pa", 100.0),
    "kPa": ("Pa", 1000.0),
    "mbar": ("Pa", 100.0),
    "bar": ("Pa", 100000.0),
    "mm[Hg]": ("Pa", 133.322387415),
    "[psi]": ("Pa", 6894.757293168),
    "[in_i'Hg]": ("Pa", 3386.388640341),
    "mm": ("m", 0.001),
    "cm": ("m", 0.01),
    "km": ("m", 1000.0),
    "[in_i]": ("m", 0.0254),
    "[ft_i]": ("m", 0.3048),
    "[mi_i]": ("m", 1609.344),
    "ms": ("s", 0.001),
    "min": ("s", 60.0),
    "h": ("s", 3600.0),
    "d": ("s", 86400.0),
    "mL": ("L", 0.001),
    "m3": ("L", 1000.0),
    "[gal_us]": ("L", 3.785411784),
    "mV": ("V", 0.001),
    "km/h": ("m/s", 0.2777777777777778),
    "[mi_i]/h": ("m/s", 0.44704),
    "kBy": ("By", 1000.0),
    "MBy": ("By", 1000000.0),
    "GBy": ("By", 1000000000.0),
    "deg": ("rad", 0.017453292519943295),
    "dB[mW]": ("dB[mW]", 1.0),
}


@pytest.mark.parametrize(
    ("written", "code"),
    [
        *(
            (word, code)
            for line in WRITTEN.strip().splitlines()
            for code, _, words in [line.partition(": ")]
            for word in words.split()
        ),
        ("", "1"),
        (" °C ", "Cel"),
        ("furlong", None),
        ("degree", None),
    ],
)
def test_what_people_write(written: str, code: str | None) -> None:
    assert ucum_code(written) == code


@pytest.mark.parametrize("code", UNITS)
def test_a_code_means_itself(code: str) -> None:
    assert ucum_code(code) == code


@pytest.mark.parametrize(
    ("unit", "target", "value"), [(unit, *due) for unit, due in ONE_IN_THE_FIRST_OF_ITS_KIND.items()]
)
def test_one_of_each_unit(unit: str, target: str, value: float) -> None:
    assert converted(1.0, unit, target) == value


def test_every_unit_is_compared_and_the_others_are_the_ones_compared_with() -> None:
    targets = {target for target, _ in ONE_IN_THE_FIRST_OF_ITS_KIND.values()}
    assert set(UNITS) == set(ONE_IN_THE_FIRST_OF_ITS_KIND) | targets


def test_a_change_of_temperature_knows_no_zero_point() -> None:
    assert converted(9.0, "°F", "Cel", is_change=True) == converted(5.0, "K", "Cel", is_change=True) == 5.0
    assert converted(5.0, "Cel", "Cel", is_change=True) == 5.0
    assert converted(50.0, "°F", "Cel") == 10.0
    assert converted(0.55, "1", "%") == 55.0


@pytest.mark.parametrize(
    ("unit", "target", "reason"),
    [
        ("furlong", "m", "'furlong' is not a known unit"),
        ("furlong", None, "'furlong' is not a known unit"),
        ("m", None, "'m' cannot be converted to None"),
        ("m", "s", "'m' cannot be converted to 's'"),
        ("m", "furlong", "'m' cannot be converted to 'furlong'"),
    ],
)
def test_what_cannot_be_converted(unit: str, target: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        converted(1.0, unit, target)
