"""Redaction of account data: what a household entrusted to Ogmen and no telemetry needs. Pure.

The fields are those of the answers about accounts, subscriptions, dogs and pet profiles in Ogmen's API document; the
rule is in docs/contract.md, «Redaction». None of those answers is requested. Since such a field may still appear where
no document has it, every field of one of these names is dropped from every message, at any depth, also in JSON inside
strings. `schemas.redact` is applied as well.
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from connectors.common.dead_letters import Digest, MessageSource, dead_letter
from schemas.json_reading import BOM, NotJson, encode, read_verbatim
from schemas.redact import REDACTED, redact, suspicion
from schemas.redact_names import is_part_of_a_system, plain_name
from schemas.redact_patterns import mask_unparsed
from schemas.wire import DeadLetter, Problem

ACCOUNT_FIELDS: tuple[str, ...] = (
    # the account and its subscription
    *("account_id", "ogmen_id", "email", "display_name", "password_hash", "last_login_time", "two_factor_enabled"),
    *("subscription_id", "subscription_plan", "subscription_status", "billing_cycle", "auto_renewal"),
    *("storage_limit_gb", "registration_id", "registration_key"),
    # the dog and the pet's profile
    *("owner_id", "breed", "medical_history", "dietary_preferences", "pet_id", "pet_name", "species"),
    *("pet_date_of_birth", "pet_age", "pet_sex", "neutered_spayed", "current_weight", "current_height"),
    *("vaccination_status", "next_vaccination_due_date", "known_medical_conditions", "medications"),
    *("next_medication_due_date", "veterinarian_contact", "food_type", "feeding_times_per_day", "portion_size"),
    *("daily_exercise_minutes", "sleep_routine", "living_environment", "household_members", "other_pets_at_home"),
    *("temperament", "socialization", "training_obedience", "play_preferences", "insurance_provider"),
    *("insurance_renewal_due_date", "insurance_policy_number", "coverage_type", "insurance_validity_start"),
    *("insurance_validity_end", "claim_contact", "profile_photo_url", "emergency_instructions", "special_notes"),
    # homes and pictures
    *("address", "first_line", "second_line", "city", "pincode", "country", "s3_path", "pgm_file", "presigned_url"),
)
"""Names as the document spells them; `displayName` and `display-name` mean the same field."""

_COMPANIONS: tuple[tuple[Set[str], Set[str]], ...] = (
    (
        {"ownerid", "breed", "medicalhistory", "dietarypreferences", "petid", "petname", "species"},
        {"name", "age", "weight", "activitylevel", "gender", "sex"},
    ),
    ({"subscriptionid", "subscriptionplan", "billingcycle"}, {"startdate", "enddate"}),
)
"""Names too common to be dropped everywhere, and the names beside which they are dropped: `name` is the dog's beside
`breed`."""

_ACCOUNT = {plain_name(name) for name in ACCOUNT_FIELDS}
_SPELT = "|".join(name.replace("_", "[ _-]?") for name in ACCOUNT_FIELDS)
_is_suspicious = suspicion(re.compile(rf"(?i){_SPELT}|_by\"|By\"".encode()))
_SENSITIVE = rf"{_SPELT}|_by\b|name"
_EXCERPT_BYTES = 2048
_BLANK = " \t\r\n" + BOM


def clean(payload: bytes) -> bytes:
    """The payload without secrets and account data; the same bytes where it has none. Raises NotJson like `redact`."""
    redacted = redact(payload)
    if not _is_suspicious(redacted):
        return redacted
    parsed = read_verbatim(redacted.decode())
    kept = _without(parsed.value)
    return encode(kept) if parsed.repeats_names or kept != parsed.value else redacted


def unusable(
    payload: bytes, source: MessageSource, problem: Problem, *, hidden: bool = False, digest: Digest | None = None
) -> DeadLetter:
    """The dead letter of a message that cannot be used: its masked beginning, or nothing of it where `hidden` (privacy
    mode). `digest` is that of the whole message, where `payload` is only its beginning.
    """
    beginning = "" if hidden else mask_unparsed(payload[:_EXCERPT_BYTES].decode(errors="replace"), _SENSITIVE)
    return dead_letter(beginning.encode(), source, problem, digest=digest or Digest.of(payload))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_fields(value)
    if isinstance(value, list):
        return [_without(item) for item in value]
    return _without_inner(value) if isinstance(value, str) else value


def _without_fields(fields: dict[str, Any]) -> dict[str, Any]:
    plain = {name: plain_name(name) for name in fields}
    names = set(plain.values())
    companions = {name for markers, dropped in _COMPANIONS if markers & names for name in dropped}
    return {
        name: _person(value) if plain[name].endswith("by") else _without(value)
        for name, value in fields.items()
        if plain[name] not in _ACCOUNT and plain[name] not in companions
    }


def _person(value: Any) -> Any:
    if isinstance(value, str) and is_part_of_a_system(value):
        return value
    return None if value is None else REDACTED


def _without_inner(text: str) -> str:
    """A string without account data; it may be JSON, or text that contains JSON («note: {…}»)."""
    if text.lstrip(_BLANK)[:1] not in ("{", "[", '"'):
        return mask_unparsed(text, _SENSITIVE) if "{" in text else text
    try:
        parsed = read_verbatim(text.lstrip(BOM))
    except NotJson:
        return mask_unparsed(text, _SENSITIVE)
    kept = _without(parsed.value)
    return encode(kept).decode() if parsed.repeats_names or kept != parsed.value else text
