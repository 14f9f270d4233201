"""Redaction of account data: what a household entrusted to Ogmen and no telemetry needs. Pure.

The fields are those of the answers about accounts, subscriptions, dogs and pet profiles in Ogmen's API document; the
rule is in docs/contract.md, «Redaction». None of those answers is requested. Since such a field may still appear where
no document has it, every field of one of these names is dropped from every message, at any depth, also in JSON inside
strings. `schemas.redact` is applied as well.
"""

from __future__ import annotations

import re
from collections.abc import Set
from decimal import Decimal
from typing import Any

import msgspec

from connectors.common.dead_letters import Digest, MessageSource, dead_letter
from schemas.redact import REDACTED, redact, suspicion
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

_WORDS_FOR_PARTS = {
    "system",
    "robot",
    "device",
    "schedule",
    "scheduler",
    "user",
    "mapp",
    "app",
    "cloud",
    "server",
    "auto",
}
"""Values of `triggered_by` that are kept. Any other may be a person's name."""


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.rpartition(".")[2]).lower()


_ACCOUNT = {_plain(name) for name in ACCOUNT_FIELDS}
_SPELT = "|".join(name.replace("_", "[ _-]?") for name in ACCOUNT_FIELDS)
_is_suspicious = suspicion(re.compile(rf"(?i){_SPELT}|_by\"|By\"".encode()))
_UNPARSED = re.compile(
    rf"(?i)([\\\"']*(?:[\w.-]*\.)?(?:{_SPELT}|[\w]*_by|name)[\\\"']*\s*[:=]\s*)"
    r"(\{[^}]*\}?|\[[^\]]*\]?|[\\\"']+[^\"']*[\"']?|[^,}\]\s]+)".encode()
)
_EXCERPT_BYTES = 2048

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def clean(payload: bytes) -> bytes:
    """The payload without secrets and account data; the same bytes where it has none. Raises NotJson like `redact`."""
    redacted = redact(payload)
    if not _is_suspicious(redacted):
        return redacted
    parsed = _decode(redacted)
    kept = _without(parsed)
    return redacted if kept == parsed else _encode(kept)


def unusable(
    payload: bytes, source: MessageSource, problem: Problem, *, hidden: bool = False, digest: Digest | None = None
) -> DeadLetter:
    """The dead letter of a message that cannot be used: its masked beginning, or nothing of it where `hidden` (privacy
    mode). `digest` is that of the whole message, where `payload` is only its beginning.
    """
    beginning = b"" if hidden else _UNPARSED.sub(rf"\1{REDACTED}".encode(), payload[:_EXCERPT_BYTES])
    return dead_letter(beginning, source, problem, digest=digest or Digest.of(payload))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_fields(value)
    if isinstance(value, list):
        return [_without(item) for item in value]
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _without_inner(value)
    return value


def _without_fields(fields: dict[str, Any]) -> dict[str, Any]:
    plain = {name: _plain(name) for name in fields}
    names = set(plain.values())
    companions = {name for markers, dropped in _COMPANIONS if markers & names for name in dropped}
    return {
        name: _person(value) if plain[name].endswith("by") else _without(value)
        for name, value in fields.items()
        if plain[name] not in _ACCOUNT and plain[name] not in companions
    }


def _person(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in _WORDS_FOR_PARTS:
        return value
    return None if value is None else REDACTED


def _without_inner(text: str) -> str:
    try:
        parsed = _decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _UNPARSED.sub(rf"\1{REDACTED}".encode(), text.encode()).decode()
    kept = _without(parsed)
    return text if kept == parsed else _encode(kept).decode()
