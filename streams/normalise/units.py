"""Converting values that came in a unit of the user's (WAYSCloud's datapoint definitions, own mappings) (pure).

Source: docs/contract.md, «Values». Conversion is exact in decimal arithmetic.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from schemas.units import UNITS
from streams.normalise.values import FieldError, finite


def convert(value: Decimal, source: str, target: str) -> float:
    """`value` in UCUM unit `source`, expressed in `target`. FieldError `unit` where they measure different things."""
    if source == target:
        return finite(value)
    from_unit, to_unit = UNITS.get(source), UNITS.get(target)
    if from_unit is None or to_unit is None or from_unit.dimension != to_unit.dimension:
        raise FieldError("unit", f"{source} cannot be converted to {target}")
    if value.adjusted() > 400:  # beyond a double, and its fraction would fill the memory
        return finite(value)
    base = (Fraction(value) if value.adjusted() > -400 else 0) * from_unit.factor + from_unit.offset
    return finite_fraction((base - to_unit.offset) / to_unit.factor)


def finite_fraction(value: Fraction) -> float:
    """The nearest double of a fraction; FieldError beyond its range."""
    try:
        return float(value)
    except OverflowError as error:
        raise FieldError("not_finite", "beyond the range of a double") from error
