"""What the alarm service's endpoints share: requests are read strictly, and refused with the field and the reason."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from alarm_service.api.requests import (
    RequestRefused,
    error_response,
    json_response,
    parse_body,
    parse_number,
    parse_object,
    parse_word,
    unavailable,
)
from schemas import alarm_api as contract
from schemas.records import AlarmRule
from schemas.rules import parse_rule


def content(answer: web.Response) -> dict[str, str]:
    assert isinstance(answer.text, str)
    parsed: dict[str, str] = json.loads(answer.text)
    return parsed


def refusal(refused: pytest.ExceptionInfo[RequestRefused]) -> str:
    answer = refused.value.answer
    assert answer.status == 400 and content(answer)["error"] == "invalid_request"
    return content(answer)["message"]


@pytest.mark.parametrize(("text", "number"), [(None, 7), ("1", 1), ("100", 100), ("0099", 99)])
def test_numbers_within_their_bounds_are_taken(text: str | None, number: int) -> None:
    assert parse_number({} if text is None else {"page": text}, "page", 7, 100) == number


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "+1", "1.5", "1e2", "²", "٣", "1" * 5000])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_number({"page": text}, "page", 7, 100)
    assert refusal(refused) == "page: must be a number from 1 to 100"


def test_a_word_is_one_of_the_list_or_absent() -> None:
    assert parse_word({}, "status", ["active"]) is None
    assert parse_word({"status": "active"}, "status", ["active"]) == "active"
    with pytest.raises(RequestRefused) as refused:
        parse_word({"status": "Active"}, "status", ["active", "resolved"])
    assert refusal(refused) == "status: must be one of active, resolved"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"x"', b"null", b'{"a": NaN}', b'{"a": Infinity}', b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_object(body)
    assert "JSON" in refusal(refused)
    assert parse_object(b'{"a": null}') == {"a": None}


def test_a_wrong_field_is_named() -> None:
    assert parse_body(b'{"note": "mine"}', contract.ActionRequest).note == "mine"
    with pytest.raises(RequestRefused) as refused:
        parse_body(b'{"until": "soon"}', contract.SnoozeRequest)
    assert refusal(refused).startswith("until: ")


def test_an_unavailable_part_is_named_with_the_time_to_wait() -> None:
    answer = unavailable("The database").answer
    assert (answer.status, content(answer)["error"]) == (503, "unavailable")
    assert content(answer)["message"].startswith("The database does not answer")
    assert int(answer.headers["Retry-After"]) > 0
    assert "Retry-After" not in error_response(404, "not_found", "none").headers


def test_a_rule_leaves_out_what_it_does_not_define() -> None:
    rule = parse_rule(
        {"id": "r", "name": "R", "rule_type": "offline", "config": {"duration_seconds": 60}, "description": None}
    )
    assert isinstance(rule, AlarmRule)
    assert "description" not in content(json_response(rule))
    pending = contract.ActionRequest(note=None)
    assert content(json_response(pending)) == {"note": None}, "other answers have all their fields"
