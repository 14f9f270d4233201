"""Units as users write them (datapoint definitions, mappings, rules), and their conversion (pure).

The source is docs/contract.md, «Values». Codes are UCUM's, and conversion is exact in rational arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: `base = value * factor + offset`. Units of one `dimension` are convertible into each other."""

    dimension: str
    factor: Fraction
    offset: Fraction = Fraction(0)


def _unit(dimension: str, factor: str, offset: str = "0") -> Unit:
    return Unit(dimension, Fraction(factor), Fraction(offset))


UNITS: dict[str, Unit] = {
    "1": _unit("ratio", "1"),
    "%": _unit("ratio", "1/100"),
    "Cel": _unit("temperature", "1", "273.15"),
    "K": _unit("temperature", "1"),
    "[degF]": _unit("temperature", "5/9", "45967/180"),
    "Pa": _unit("pressure", "1"),
    "hPa": _unit("pressure", "100"),
    "kPa": _unit("pressure", "1000"),
    "mbar": _unit("pressure", "100"),
    "bar": _unit("pressure", "100000"),
    "mm[Hg]": _unit("pressure", "133.322387415"),
    "[psi]": _unit("pressure", "6894.757293168"),
    "[in_i'Hg]": _unit("pressure", "3386.388640341"),
    "mm": _unit("length", "1/1000"),
    "cm": _unit("length", "1/100"),
    "m": _unit("length", "1"),
    "km": _unit("length", "1000"),
    "[in_i]": _unit("length", "0.0254"),
    "[ft_i]": _unit("length", "0.3048"),
    "[mi_i]": _unit("length", "1609.344"),
    "ms": _unit("time", "1/1000"),
    "s": _unit("time", "1"),
    "min": _unit("time", "60"),
    "h": _unit("time", "3600"),
    "d": _unit("time", "86400"),
    "mL": _unit("volume", "1/1000"),
    "L": _unit("volume", "1"),
    "m3": _unit("volume", "1000"),
    "[gal_us]": _unit("volume", "3.785411784"),
    "mV": _unit("voltage", "1/1000"),
    "V": _unit("voltage", "1"),
    "m/s": _unit("speed", "1"),
    "km/h": _unit("speed", "5/18"),
    "[mi_i]/h": _unit("speed", "0.44704"),
    "By": _unit("bytes", "1"),
    "kBy": _unit("bytes", "1000"),
    "MBy": _unit("bytes", "1000000"),
    "GBy": _unit("bytes", "1000000000"),
    "rad": _unit("angle", "1"),
    "deg": _unit("angle", "0.017453292519943295769236907684886"),
    "dB[mW]": _unit("power level", "1"),
}
"""Units by UCUM code."""

_ALIASES = {
    "°c": "Cel",
    "℃": "Cel",
    "c": "Cel",
    "celsius": "Cel",
    "degc": "Cel",
    "°f": "[degF]",
    "℉": "[degF]",
    "f": "[degF]",
    "fahrenheit": "[degF]",
    "degf": "[degF]",
    "kelvin": "K",
    "percent": "%",
    "%rh": "%",
    "rh": "%",
    "dbm": "dB[mW]",
    "mmhg": "mm[Hg]",
    "psi": "[psi]",
    "inhg": "[in_i'Hg]",
    "in": "[in_i]",
    "inch": "[in_i]",
    "ft": "[ft_i]",
    "mi": "[mi_i]",
    "mph": "[mi_i]/h",
    "kph": "km/h",
    "sec": "s",
    "seconds": "s",
    "minutes": "min",
    "hours": "h",
    "hr": "h",
    "liter": "L",
    "litre": "L",
    "l": "L",
    "ml": "mL",
    "gal": "[gal_us]",
    "volt": "V",
    "b": "By",
    "kb": "kBy",
    "mb": "MBy",
    "gb": "GBy",
    "°": "deg",
    "": "1",
}
_BY_LOWER_CASE = {code.lower(): code for code in UNITS}


def ucum_code(unit: str) -> str | None:
    """The UCUM code of a unit as people write it (`°C`, `dBm`, `hPa`); None for an unknown unit."""
    name = unit.strip()
    if name in UNITS:
        return name
    return _ALIASES.get(name.lower()) or _BY_LOWER_CASE.get(name.lower())


def converted(value: float, unit: str, target: str | None, *, is_change: bool = False) -> float:
    """Convert `value` from a unit as people write it into the UCUM unit `target`.

    With `is_change`, the value is a difference, so that the zero points of temperature scales do not count. ValueError
    when the unit is unknown, or has another dimension than the target.
    """
    source = UNITS.get(ucum_code(unit) or "")
    due = UNITS.get(target or "")
    if source is None:
        raise ValueError(f"{unit!r} is not a known unit; write a UCUM code, such as `[degF]`")
    if target is None or due is None or due.dimension != source.dimension:
        raise ValueError(f"{unit!r} cannot be converted to {target!r}, the unit of the readings")
    if source == due:
        return value
    base = Fraction(str(value)) * source.factor + (0 if is_change else source.offset)
    return float((base - (0 if is_change else due.offset)) / due.factor)
