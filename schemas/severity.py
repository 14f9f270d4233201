"""Severity words (docs/contract.md, «Alarms»): in any case; an unknown word becomes `warning` (pure)."""

from __future__ import annotations

from schemas.words import Severity

_KNOWN = {severity.value for severity in Severity}
_NUMBERED = tuple(severity.value for severity in Severity)


def severity_of_word(word: object) -> tuple[str, str | None]:
    """The severity, and the original word as text if it is not one of ours."""
    text = str(word).strip().lower()
    return (text, None) if text in _KNOWN else (Severity.WARNING.value, str(word))


def severity_of_number(number: int) -> str:
    """The severity of Ogmen's numbers 1 (most critical) to 5 (its API document, alert webhook); else ValueError."""
    if not 1 <= number <= len(_NUMBERED):
        raise ValueError(f"severity must be 1 to {len(_NUMBERED)}, got {number}")
    return _NUMBERED[number - 1]
