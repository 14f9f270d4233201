"""Severity words (contract.md, «Alarms»): any case, unknown ones become `warning` and the original is kept (pure)."""

from __future__ import annotations

from schemas.words import Severity

_KNOWN = {severity.value for severity in Severity}
_NUMBERED = tuple(severity.value for severity in Severity)


def severity_of_word(word: object) -> tuple[str, str | None]:
    """The severity and, where the word is not one of ours, the original as text."""
    text = str(word).strip().lower()
    return (text, None) if text in _KNOWN else (Severity.WARNING.value, str(word))


def severity_of_number(number: int) -> str:
    """Ogmen's 1 (most critical) to 5 (ogmen.txt, alert webhook). ValueError for any other number."""
    if not 1 <= number <= len(_NUMBERED):
        raise ValueError(f"severity must be 1 to {len(_NUMBERED)}, got {number}")
    return _NUMBERED[number - 1]
